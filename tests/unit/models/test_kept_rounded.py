"""A generator that drafts with rounded weights alone says the same as one that keeps the exact ones beside them."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from crrg.config.models import GeneratorArchitecture
from crrg.errors import ModelError
from crrg.models.report_generator import ReportGenerator

SIZES = GeneratorArchitecture(num_layers=2, hidden_size=64, vocab_size=320, feature_size=16)


def generator() -> ReportGenerator:
    torch.manual_seed(0)
    return ReportGenerator(SIZES).eval()


@torch.inference_mode()
def first_words(model: ReportGenerator) -> torch.Tensor:
    torch.manual_seed(1)
    condition = model.encode_condition(torch.randn(5, 16), torch.arange(5), torch.zeros(5, 15))
    logits, _ = model.decoder_for("fast").prefill(condition, 0)
    return logits


def test_it_says_the_same_and_keeps_no_exact_weights() -> None:
    both, alone = generator(), generator()
    exact = weakref.ref(alone.decoder.transformer.h[0].mlp.c_fc.weight)
    alone.keep_rounded()
    alone.keep_rounded()
    gc.collect()
    assert exact() is None
    assert both.decoder.transformer.h[0].mlp.c_fc.weight is not None
    assert torch.equal(first_words(alone), first_words(both))


def test_exact_drafts_are_refused_then_and_say_the_way_out() -> None:
    model = generator()
    model.decoder_for("exact")
    model.keep_rounded()
    with pytest.raises(ModelError, match="only its rounded weights are kept; read the bundle again"):
        model.decoder_for("exact")


def test_what_a_sentence_rests_on_is_still_asked() -> None:
    model = generator()
    tokens = torch.tensor([[0, 5, 7], [0, 9, 2]])
    with torch.inference_mode():
        condition = model.encode_condition(torch.randn(2, 16), torch.arange(2), torch.zeros(2, 15))
        exact = model(tokens, condition).log_softmax(-1)
        model.keep_rounded()
        rounded = model(tokens, condition).log_softmax(-1)
    assert float((exact - rounded).abs().max()) < 0.1
