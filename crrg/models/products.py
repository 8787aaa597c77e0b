"""Float32 products of inference on a CPU by oneDNN, with what follows them in the same pass.

torch multiplies with MKL, one thread also in convolutions of one pixel. On AMD's processors MKL seems to leave AVX-512
unused, and oneDNN is 2.2 to 2.8 times as fast (95 against 230 GFLOP/s on one thread of an EPYC of family 26); with AVX2
alone it still is 1.1 to 1.3 times as fast. Sums are taken in another order, so the last digits differ. Where gradients
are wanted, on a GPU, in other precisions, and within ``torch_products`` torch's own are used.

Letters: ``N`` rows, ``I O`` inputs and outputs, ``B`` images, ``C`` channels, ``H W`` pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear
from transformers.pytorch_utils import Conv1D

Activation = Literal["none", "relu", "gelu"]
Kind = TypeVar("Kind", bound=nn.Module)


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


def project(layer: nn.Module, inputs: Tensor, activation: Activation = "none") -> Tensor:
    """Return ``activation(layer(inputs))``; layers other than plain linear ones compute as they do themselves."""
    if type(layer) is nn.Linear:
        return affine(inputs, layer.weight, layer.bias, activation)
    if type(layer) is Conv1D:
        return affine(inputs, cast(Tensor, layer.weight).t(), cast(Tensor, layer.bias), activation)
    return _activated(layer(inputs), activation)


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


class _PlainConvolution(nn.Module):
    """A convolution for inference, and what follows it: a sum, and an activation."""

    def __init__(self, convolution: nn.Conv2d, activation: Activation) -> None:
        super().__init__()
        self.convolution = convolution.to(memory_format=torch.channels_last)
        self.activation: Activation = activation

    def forward(self, images: Tensor, added: Tensor | None = None) -> Tensor:
        found = self.convolution(images)
        return _activated(found if added is None else found + added, self.activation)


class _PackedConvolution(nn.Module):
    """The same with weights laid out for oneDNN, anew where the images' size changes, as the layout depends on it."""

    def __init__(self, convolution: nn.Conv2d, activation: Activation) -> None:
        super().__init__()
        sizes = (convolution.padding, convolution.stride, convolution.dilation)
        self._settings = (*([int(number) for number in pair] for pair in sizes), convolution.groups)
        self._activation: Activation = activation
        self._bias = None if convolution.bias is None else convolution.bias.detach()
        self._weight = convolution.weight.detach()
        self._size: torch.Size | None = None

    def forward(self, images: Tensor, added: Tensor | None = None) -> Tensor:
        if images.shape[2:] != self._size:
            plain = self._weight.to_dense() if self._weight.is_mkldnn else self._weight
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(plain, *self._settings, [1, *images.shape[1:]])
            self._size = images.shape[2:]
        own: Any = (self._weight, self._bias, *self._settings)
        product: Any = torch.ops.mkldnn._convolution_pointwise
        if added is None:
            found: Tensor = product(images, *own, self._activation, [], "")
        else:
            found = product.binary(images, added, *own, "add", None, self._activation, [], "")
        return found


def prepared_convolution(convolution: nn.Conv2d, activation: Activation = "none") -> nn.Module:
    """Return what computes ``activation(convolution(images))`` in inference, for images channels last.

    Its ``forward`` may be given what is added before the activation.

    Args:
        convolution: Padded with zeros; what is returned is for its device.
        activation: ``none`` or ``relu``.
    """
    with torch.no_grad():
        is_packed = is_onednn_used(convolution.weight)
    return (_PackedConvolution if is_packed else _PlainConvolution)(convolution, activation)


def _activated(values: Tensor, activation: Activation) -> Tensor:
    match activation:
        case "relu":
            return torch.relu(values)
        case "gelu":
            return gelu(values, approximate="tanh")
        case "none":
            return values
