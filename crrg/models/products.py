"""Float32 products of inference on a CPU by oneDNN, with what follows them in the same pass.

torch multiplies with MKL, one thread also in convolutions of one pixel. On AMD's processors MKL seems to leave AVX-512
unused, and oneDNN is 2.2 to 2.8 times as fast where it doubles the rate (95 against 230 GFLOP/s on one thread of an
EPYC of family 26), and 1.1 to 1.3 times where it does not (family 25: 100 against 110) or there is AVX2 alone. Sums are
taken in another order, so the last digits differ. Where gradients are wanted, on a GPU, in other precisions, and within
``torch_products`` torch's own are used.

oneDNN keeps what it prepares for each shape, and so does torch above it, each for its last 1,024 shapes: phrases of all
lengths fill that within some thousand films, and a night grows by a quarter. Fewer are kept here, at the same pace; the
environment may say otherwise.

Letters: ``N`` rows, ``I O`` inputs and outputs, ``B`` images, ``C`` channels, ``H W`` pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, linear, unfold
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from transformers.pytorch_utils import Conv1D

Activation = Literal["none", "relu", "gelu"]
Kind = TypeVar("Kind", bound=nn.Module)

LAID_OUT_BYTES = 1 << 26
"""Largest weights of a convolution that are laid out anew for oneDNN: what it gains would double large ones."""

KEPT_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "16"}
"""Variables that both read before their first product: how many shapes oneDNN keeps, and how many torch above it."""
for _variable, _number in KEPT_SHAPES.items():
    os.environ.setdefault(_variable, _number)

PROCESSOR = Path("/proc/cpuinfo")
INTEL = "GenuineIntel"

_is_torchs: ContextVar[bool] = ContextVar("is_torchs", default=False)


@contextmanager
def torch_products() -> Iterator[None]:
    """Compute as torch does within the block, to the last digit."""
    token = _is_torchs.set(True)
    try:
        yield
    finally:
        _is_torchs.reset(token)


def is_onednn_used(tensor: Tensor) -> bool:
    """Return whether products with such a tensor are oneDNN's."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not _is_torchs.get()
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def affine(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none") -> Tensor:
    """Return ``activation(inputs @ weight.T + bias)``.

    A row of the result depends neither on the other rows nor, from two rows on, on how many there are.

    Args:
        inputs: ``[..., I]``.
        weight: ``[O, I]``, may be the transposed view of another tensor.
        bias: ``[O]``.
        activation: ``gelu`` is the approximation by tanh, as in GPT-2.

    Returns:
        ``[..., O]``.
    """
    if is_onednn_used(inputs) and inputs.numel():
        algorithm = "tanh" if activation == "gelu" else ""
        found: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, activation, [], algorithm)
        return found
    return _activated(linear(inputs, weight, bias), activation)


def multiply_each(inputs: Tensor, weights: Tensor) -> Tensor:
    """Return ``inputs @ weight`` for each of several small weights.

    Args:
        inputs: ``[N, I]``.
        weights: ``[K, I, O]``.

    Returns:
        ``[K, N, O]``.
    """
    if is_onednn_used(inputs) and not _is_intels():
        return torch.stack([affine(inputs, weight.T) for weight in weights])
    # MKL multiplies them in one call, on Intel's processors a twelfth faster than one by one by either library
    return torch.bmm(inputs.expand(len(weights), -1, -1), weights)


@cache
def _is_intels() -> bool:
    """Return whether the processor is Intel's, on which MKL uses all there is."""
    return PROCESSOR.is_file() and INTEL in PROCESSOR.read_text(encoding="ascii", errors="replace")


def project(layer: nn.Module, inputs: Tensor, activation: Activation = "none") -> Tensor:
    """Return ``activation(layer(inputs))``; layers other than plain linear ones compute as they do themselves."""
    if type(layer) is nn.Linear:
        return affine(inputs, layer.weight, layer.bias, activation)
    if type(layer) is Conv1D:
        return affine(inputs, cast(Tensor, layer.weight).t(), cast(Tensor, layer.bias), activation)
    return _activated(layer(inputs), activation)


def as_multiplied(weight: Tensor) -> Tensor:
    """Return a weight as mixed precision multiplies it: in use torch would cast it anew in every product."""
    kind = weight.device.type
    return weight.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else weight


class _Linear(nn.Linear):
    """A linear layer that multiplies by ``affine``."""

    def forward(self, input: Tensor) -> Tensor:
        return affine(input, self.weight, self.bias)


def with_fast_layers(module: Kind) -> Kind:
    """Return a module whose plain linear layers compute by ``affine``; it keeps its weights, and learns as before."""
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = _Linear
    return module


def with_output_rows(module: Kind) -> Kind:
    """Return a module whose GPT-2 projections lie in memory output by output, as oneDNN reads them fastest.

    It keeps its weights, which only lie otherwise, and takes no more memory. For inference: where weights are learnt,
    products of weights that lie otherwise differ in their last digits, and a resumed training would with them.
    """
    for part in module.modules():
        if type(part) is Conv1D and part.weight.device.type == "cpu":
            part.weight.data = part.weight.data.t().contiguous().t()
    return module


class _PlainConvolution(nn.Module):
    """A convolution for inference, and what follows it: a sum, and an activation."""

    def __init__(self, convolution: nn.Conv2d, norm: _BatchNorm | None, activation: Activation) -> None:
        super().__init__()
        weight, bias = _folded(convolution, norm)
        self._convolve = partial(
            conv2d, weight=weight.contiguous(memory_format=torch.channels_last), bias=bias, stride=convolution.stride,
            padding=convolution.padding, dilation=convolution.dilation, groups=convolution.groups,
        )  # fmt: skip
        self._activation: Activation = activation

    def forward(self, images: Tensor, added: Tensor | None = None) -> Tensor:
        found = self._convolve(images)
        return _activated(found if added is None else found + added, self._activation)


class _PackedConvolution(nn.Module):
    """The same with weights laid out for oneDNN, anew where the images' size changes, as the layout depends on it."""

    def __init__(self, convolution: nn.Conv2d, norm: _BatchNorm | None, activation: Activation) -> None:
        super().__init__()
        sizes = (convolution.padding, convolution.stride, convolution.dilation)
        self._settings = (*([int(number) for number in pair] for pair in sizes), convolution.groups)
        self._activation: Activation = activation
        self._source = (convolution, norm)
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None
        self._size: torch.Size | None = None

    def forward(self, images: Tensor, added: Tensor | None = None) -> Tensor:
        if images.shape[2:] != self._size:
            # folded here and not before, so that a network's weights are never there folded and laid out as well
            self._weight = None
            weight, self._bias = _folded(*self._source)
            lay_out: Any = torch.ops.mkldnn._reorder_convolution_weight
            self._weight = lay_out(weight, *self._settings, [1, *images.shape[1:]])
            self._size = images.shape[2:]
        own: Any = (self._weight, self._bias, *self._settings)
        product: Any = torch.ops.mkldnn._convolution_pointwise
        if added is None:
            found: Tensor = product(images, *own, self._activation, [], "")
        else:
            found = product.binary(images, added, *own, "add", None, self._activation, [], "")
        return found


class _UnfoldedConvolution(nn.Module):
    """The same as a product of the weights as they lie and the unfolded pixels: no copy of the weights."""

    def __init__(self, convolution: nn.Conv2d, activation: Activation) -> None:
        super().__init__()
        self._side, self._stride = convolution.kernel_size, convolution.stride
        self._padding, self._dilation = cast(tuple[int, int], convolution.padding), convolution.dilation
        self._activation: Activation = activation
        self._bias = None if convolution.bias is None else convolution.bias.detach()[:, None]
        self._weight = convolution.weight.detach().flatten(1)

    def forward(self, images: Tensor, added: Tensor | None = None) -> Tensor:
        height, width = (self._outputs(axis, size) for axis, size in enumerate(images.shape[2:]))
        found = images.new_empty(len(images), len(self._weight), height * width)
        for image, own in zip(images, found, strict=True):
            pixels = unfold(image[None], self._side, self._dilation, self._padding, self._stride)[0]
            own.copy_(affine(self._weight, pixels.t()))
        if self._bias is not None:
            found += self._bias
        found = found.unflatten(2, (height, width))
        return _activated(found if added is None else found + added, self._activation)

    def _outputs(self, axis: int, size: int) -> int:
        reach = self._dilation[axis] * (self._side[axis] - 1)
        return (size + 2 * self._padding[axis] - reach - 1) // self._stride[axis] + 1


def prepared_convolution(
    convolution: nn.Conv2d, activation: Activation = "none", norm: _BatchNorm | None = None
) -> nn.Module:
    """Return what computes ``activation(norm(convolution(images)))`` in inference, for images channels last.

    Its ``forward`` may be given what is added before the activation. It is to be made anew where weights change.

    Args:
        convolution: Padded with zeros; what is returned is for its device.
        activation: ``none`` or ``relu``.
        norm: What follows it, before the activation, folded into its weights.
    """
    weight = convolution.weight
    with torch.no_grad():
        if not is_onednn_used(weight):
            return _PlainConvolution(convolution, norm, activation)
    is_large = weight.numel() * weight.element_size() > LAID_OUT_BYTES
    if is_large and norm is None and convolution.groups == 1:
        return _UnfoldedConvolution(convolution, activation)
    return _PackedConvolution(convolution, norm, activation)


@torch.no_grad()
def _folded(convolution: nn.Conv2d, norm: _BatchNorm | None) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of a convolution with the normalisation after it, as in ``eval`` mode."""
    weight, bias = convolution.weight.detach(), None if convolution.bias is None else convolution.bias.detach()
    if norm is None:
        return weight, bias
    if norm.running_mean is None or norm.running_var is None:
        raise AssertionError("unreachable: backbones keep running statistics")
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    folded, shift = fuse_conv_bn_weights(weight, bias, *statistics)
    return folded.detach(), shift.detach()


def _activated(values: Tensor, activation: Activation) -> Tensor:
    match activation:
        case "relu":
            return torch.relu(values)
        case "gelu":
            return gelu(values, approximate="tanh")
        case "none":
            return values
