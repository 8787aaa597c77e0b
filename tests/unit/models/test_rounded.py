"""Rounded layers say nearly what the exact ones say, row by row."""

from __future__ import annotations

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from crrg.models import rounded
from crrg.models.rounded import LARGEST, LARGEST_PAIR, RoundedLinear, fast_decoder, largest_weight
from tests.support.random_stages import random_generator


def test_rows_are_nearly_those_of_the_exact_layer() -> None:
    torch.manual_seed(0)
    layer, inputs = torch.nn.Linear(64, 48), torch.randn(2, 9, 64)
    inputs[0, 0] *= 1000
    with torch.no_grad():
        wanted, found = layer(inputs), RoundedLinear(layer.weight, layer.bias)(inputs)
    assert found.shape == wanted.shape
    # a row of large values takes nothing from the precision of the others
    assert float(((found - wanted).norm(dim=-1) / wanted.norm(dim=-1)).max()) < 0.02


def test_a_transposed_weight_is_rounded_as_it_is_meant() -> None:
    torch.manual_seed(0)
    layer, inputs = Conv1D(48, 64), torch.randn(9, 64)
    with torch.no_grad():
        wanted, found = layer(inputs), RoundedLinear(layer.weight.t(), layer.bias)(inputs)
    assert float((found - wanted).norm() / wanted.norm()) < 0.02


def test_rows_do_not_depend_on_their_neighbours() -> None:
    torch.manual_seed(0)
    layer, inputs = torch.nn.Linear(64, 48), torch.randn(32, 64)
    layer_rounded = RoundedLinear(layer.weight, layer.bias)
    with torch.no_grad():
        assert torch.equal(layer_rounded(inputs)[8:16], layer_rounded(inputs[8:16]))


def test_zeros_give_the_bias() -> None:
    layer = torch.nn.Linear(8, 3)
    assert torch.equal(RoundedLinear(layer.weight, layer.bias)(torch.zeros(1, 8))[0], layer.bias)


@pytest.mark.parametrize("largest", [LARGEST, LARGEST_PAIR])
def test_extreme_values_are_not_cut_off(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    """All weights and inputs of one sign give the largest sums there are; 7-bit weights are right on every CPU."""
    if largest > largest_weight():
        pytest.skip("this CPU has no products of bytes that are right for 8-bit weights")
    monkeypatch.setattr(rounded, "largest_weight", lambda: largest)
    layer = torch.nn.Linear(256, 48)
    with torch.no_grad():
        layer.weight.fill_(0.5)
        inputs = torch.full((5, 256), 3.0)
        wanted = layer(inputs)
        found = RoundedLinear(layer.weight, layer.bias)(inputs)
    assert torch.allclose(found, wanted, rtol=1e-5)


@torch.inference_mode()
def test_on_a_gpu_weights_are_bfloat16_and_logits_are_not_rounded() -> None:
    # tensors without values have what shapes and types they would have on a GPU
    decoder = fast_decoder(random_generator().decoder.to("meta"))
    assert decoder.transformer.wte.weight.dtype == torch.bfloat16
    condition = torch.empty(5, 3, decoder.transformer.config.n_embd, dtype=torch.bfloat16, device="meta")
    logits, cache = decoder.prefill(condition, 0)
    vocab_size = len(decoder.transformer.wte.weight)
    assert (logits.dtype, tuple(logits.shape)) == (torch.float32, (5, vocab_size))
    assert cache.keys[0].dtype == torch.bfloat16
    scores = decoder.word_scores
    assert scores is not None
    assert tuple(
        scores(torch.empty(5, 4, decoder.transformer.config.n_embd, dtype=torch.bfloat16, device="meta")).shape
    ) == (5, 4, vocab_size)
