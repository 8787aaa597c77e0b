"""Products of inference say what torch's own say, whatever is beside a row, and leave training alone."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from crrg.models import products
from crrg.models.products import (
    Activation,
    affine,
    is_onednn_used,
    multiply_each,
    prepared_convolution,
    project,
    torch_products,
    with_fast_layers,
    with_output_rows,
)
from crrg.models.proposals import _FloatHead

ACTIVATIONS: dict[Activation, nn.Module] = {"none": nn.Identity(), "relu": nn.ReLU(), "gelu": nn.GELU("tanh")}


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
@pytest.mark.parametrize("layer", [nn.Linear(96, 40), nn.Linear(96, 40, bias=False), Conv1D(40, 96)])
def test_a_product_is_that_of_the_layer(layer: nn.Module, activation: Activation) -> None:
    inputs = drawn(3, 4, 96)
    with torch.no_grad():
        found = project(layer, inputs, activation)
        wanted = ACTIVATIONS[activation](layer.double()(inputs.double()))
        assert torch.allclose(project(layer.float(), inputs[:, ::2], activation), found[:, ::2], atol=1e-6)
        assert project(layer, inputs[:0], activation).shape == (0, 4, 40)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("is_laid_out", [False, True])
def test_a_row_depends_neither_on_the_others_nor_on_how_many_there_are(is_laid_out: bool) -> None:
    inputs, weight, bias = drawn(160, 256), drawn(256, 192).t(), drawn(192)
    weight = weight.contiguous() if is_laid_out else weight
    with torch.no_grad():
        together = affine(inputs, weight, bias, "gelu")
        for number in (*range(2, 40), 100, 159):
            assert torch.equal(affine(inputs[:number], weight, bias, "gelu"), together[:number])


@pytest.mark.parametrize("is_intels", [False, True])
def test_many_small_products_are_those_of_each_weight_whoever_made_the_processor(
    is_intels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_is_intels", lambda: is_intels)
    inputs, weights = drawn(24, 96), drawn(5, 96, 16)
    with torch.no_grad():
        found = multiply_each(inputs, weights)
        assert torch.allclose(found.double(), inputs.double() @ weights.double(), atol=1e-5)
        assert torch.equal(multiply_each(inputs[:12], weights), found[:, :12])


@pytest.mark.parametrize(
    ("text", "is_intels"), [("vendor_id\t: GenuineIntel", True), ("vendor_id\t: AuthenticAMD", False)]
)
def test_the_maker_of_the_processor_is_read_once(
    text: str, is_intels: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "PROCESSOR", tmp_path / "cpuinfo")
    assert not products._is_intels.__wrapped__(), "a system without this file is none we know"
    (tmp_path / "cpuinfo").write_text(text)
    assert products._is_intels.__wrapped__() is is_intels


def test_projections_that_lie_output_by_output_are_the_same_ones() -> None:
    module = nn.Sequential(Conv1D(40, 96), nn.GELU(), nn.Linear(40, 8), Conv1D(4, 8))
    before, inputs = copy.deepcopy(module), drawn(5, 96)
    assert with_output_rows(module) is module
    assert [part.weight.stride() for part in module if isinstance(part, Conv1D)] == [(1, 96), (1, 8)]
    with torch.no_grad():
        torch.testing.assert_close(project(module[0], inputs), project(before[0], inputs), rtol=0, atol=1e-5)
    for name, tensor in before.state_dict().items():
        assert torch.equal(module.state_dict()[name], tensor)
    assert torch.equal(with_output_rows(module)[0].weight, before[0].weight)
    module(inputs).sum().backward()
    assert module[0].weight.grad is not None


def test_training_other_precisions_and_other_layers_are_left_to_torch() -> None:
    inputs, layer = drawn(5, 96), nn.Linear(96, 40)
    assert not is_onednn_used(inputs)
    with torch.no_grad():
        assert is_onednn_used(inputs) is torch.backends.mkldnn.is_available()
        assert not is_onednn_used(inputs.double())
        with torch_products():
            assert not is_onednn_used(inputs)
        assert torch.equal(project(nn.Sequential(layer), inputs), layer(inputs))
    project(layer, inputs, "relu").sum().backward()
    assert layer.weight.grad is not None


def test_fast_layers_keep_their_names_and_learn_as_before() -> None:
    plain = nn.Sequential(nn.Linear(96, 40), nn.GELU(), nn.Linear(40, 8))
    fast, inputs = with_fast_layers(copy.deepcopy(plain)), drawn(5, 96)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(fast(inputs), plain(inputs), rtol=0, atol=1e-5)
    for network in (plain, fast):
        network(inputs).square().sum().backward()
    for own, other in zip(fast.parameters(), plain.parameters(), strict=True):
        assert own.grad is not None
        assert other.grad is not None
        assert torch.equal(own.grad, other.grad)


@pytest.mark.parametrize(("side", "stride", "groups"), [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 4), (7, 2, 1)])
def test_a_prepared_convolution_is_the_convolution_at_every_size(side: int, stride: int, groups: int) -> None:
    convolution = nn.Conv2d(32, 24 if groups == 1 else 32, side, stride, side // 2, groups=groups)
    prepared = prepared_convolution(convolution, "relu")
    with torch.no_grad():
        for size in (16, 9, 33, 16):
            images = drawn(2, 32, size, size).to(memory_format=torch.channels_last)
            plain = convolution(images)
            torch.testing.assert_close(prepared(images), torch.relu(plain), rtol=0, atol=1e-5)
            torch.testing.assert_close(prepared(images, -2 * plain), torch.relu(-plain), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("side", "stride", "dilation"), [(1, 1, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (7, 2, 1)])
def test_a_convolution_of_large_weights_is_computed_from_them_as_they_lie(
    monkeypatch: pytest.MonkeyPatch, side: int, stride: int, dilation: int
) -> None:
    convolution = nn.Conv2d(32, 24, side, stride, dilation * (side // 2), dilation)
    packed = prepared_convolution(convolution, "relu")
    monkeypatch.setattr(products, "LAID_OUT_BYTES", 0)
    large = prepared_convolution(convolution, "relu")
    assert type(large) is not type(packed)
    with torch.no_grad():
        for height, width in ((16, 16), (9, 12), (16, 16)):
            images = drawn(3, 32, height, width).to(memory_format=torch.channels_last)
            plain = convolution(images)
            torch.testing.assert_close(large(images), torch.relu(plain), rtol=0, atol=1e-5)
            torch.testing.assert_close(large(images, -2 * plain), torch.relu(-plain), rtol=0, atol=1e-5)
            assert torch.equal(large(images[1:2]), large(images)[1:2])
        convolution.weight.zero_()
        torch.testing.assert_close(large(images), torch.relu(convolution(images)))


def test_the_proposal_head_says_in_use_what_it_says_in_training() -> None:
    head, levels = _FloatHead(16, 3), [drawn(2, 16, 8, 8), drawn(2, 16, 4, 4)]
    wanted = head(levels)
    with torch.no_grad():
        found = head(levels)
        head.conv[0][0].weight.mul_(2)
        changed = head(levels)
    for own, others in zip(found, wanted, strict=True):
        for level, other in zip(own, others, strict=True):
            torch.testing.assert_close(level, other.detach(), rtol=0, atol=1e-5)
    assert not torch.allclose(changed[0][0], found[0][0], atol=1e-3)
