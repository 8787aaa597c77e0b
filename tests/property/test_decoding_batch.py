"""A phrase is the same alone, among others, and whatever slot it gets."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crrg.config.models import DecodingSettings, GeneratorArchitecture
from crrg.inference.decoding import DecodedPhrase, decode_phrases
from crrg.models.report_generator import ReportGenerator


class Numbers:
    end_id = 0
    placeholder_id = 1

    def decode(self, ids: tuple[int, ...]) -> str:
        return " ".join(str(i) for i in ids)


def build() -> ReportGenerator:
    torch.manual_seed(3)
    model = ReportGenerator(
        GeneratorArchitecture(num_layers=2, num_heads=4, hidden_size=64, vocab_size=300, max_length=20, feature_size=16)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
        # the end is made likely enough that phrases have many lengths and slots are used again
        end = model.decoder.transformer.wte.weight[0]
        model.decoder.transformer.ln_f.bias += 1.5 * end / end.square().sum()
    return model.eval()


MODEL = build()
RNG = np.random.default_rng(0)
FEATURES, REGIONS, FLAGS = RNG.normal(size=(64, 16)), RNG.integers(0, 29, 64), RNG.random((64, 15))


def decode(rows: list[int], num_beams: int) -> list[DecodedPhrase]:
    chosen = DecodingSettings(num_beams=num_beams, num_slots=8)
    return decode_phrases(MODEL, Numbers(), FEATURES[rows], REGIONS[rows], FLAGS[rows], chosen)


ALL = {num_beams: decode(list(range(64)), num_beams) for num_beams in (1, 4)}


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.integers(0, 63), min_size=1, max_size=20), num_beams=st.sampled_from([1, 4]))
def test_neighbours_change_nothing(rows: list[int], num_beams: int) -> None:
    got = decode(rows, num_beams)
    for row, phrase in zip(rows, got, strict=True):
        assert phrase.text == ALL[num_beams][row].text
        assert abs(phrase.logprob - ALL[num_beams][row].logprob) <= 1e-6
        assert phrase.is_finished == ALL[num_beams][row].is_finished


def test_the_phrases_differ_so_that_a_mix_up_would_show() -> None:
    assert len({phrase.text for phrase in ALL[4]}) > 32
    assert len({len(phrase.text.split()) for phrase in ALL[4]}) > 4
    assert {phrase.is_finished for phrase in ALL[4]} == {True, False}
