"""A phrase is the same alone, among others, and whatever slot it gets."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crrg.models.decoder
from crrg.config.models import DecodingSettings
from crrg.inference.decoding import DecodedPhrase, decode_phrases
from crrg.models.decoder import NodeCache
from tests.support.random_stages import random_generator


class Numbers:
    end_id = 0
    placeholder_id = 1

    def decode(self, ids: tuple[int, ...]) -> str:
        return " ".join(str(i) for i in ids)


MODEL = random_generator()
RNG = np.random.default_rng(0)
FEATURES, REGIONS, FLAGS = RNG.normal(size=(64, 16)), RNG.integers(0, 29, 64), RNG.random((64, 15))


def decode(rows: list[int], num_beams: int, precision: Literal["exact", "fast"]) -> list[DecodedPhrase]:
    chosen = DecodingSettings(num_beams=num_beams, num_slots=8, precision=precision)
    return decode_phrases(MODEL, Numbers(), FEATURES[rows], REGIONS[rows], FLAGS[rows], chosen)


KINDS: list[tuple[int, Literal["exact", "fast"]]] = [(1, "exact"), (4, "exact"), (4, "fast")]
ALL = {kind: decode(list(range(64)), *kind) for kind in KINDS}


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, 63), min_size=1, max_size=20), kind=st.sampled_from(KINDS))
def test_neighbours_change_nothing(rows: list[int], kind: tuple[int, Literal["exact", "fast"]]) -> None:
    got = decode(rows, *kind)
    for row, phrase in zip(rows, got, strict=True):
        assert phrase.text == ALL[kind][row].text
        assert abs(phrase.logprob - ALL[kind][row].logprob) <= 1e-6
        assert phrase.is_finished == ALL[kind][row].is_finished


def test_a_phrase_is_the_same_alone_and_among_a_thousand() -> None:
    model, rng = random_generator(num_layers=1, num_heads=2, hidden_size=32, max_length=12), np.random.default_rng(1)
    inputs = rng.normal(size=(1000, 16)), rng.integers(0, 29, 1000), rng.random((1000, 15))
    search = DecodingSettings(num_beams=2, num_slots=64)
    many = decode_phrases(model, Numbers(), *inputs, search)
    assert len({phrase.text for phrase in many}) > 250
    for row in (0, 517, 999):
        (alone,) = decode_phrases(model, Numbers(), *(part[[row]] for part in inputs), search)
        assert alone.text == many[row].text
        assert abs(alone.logprob - many[row].logprob) <= 1e-6


def test_a_cache_that_grows_gives_up_empty_slots_and_takes_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    grow, num_slots = NodeCache.make_room, []

    def watched(cache: NodeCache, num_nodes: int, num_used: int) -> None:
        grow(cache, num_nodes, num_used)
        num_slots.append(len(cache.visible))

    for name in ("NODES_ADDED", "REFILLED_NODES"):
        monkeypatch.setattr(crrg.models.decoder, name, 32)
    monkeypatch.setattr(NodeCache, "make_room", watched)
    changes = []
    for rows in (list(range(64)), [5, 6, 7, 8, 9], list(range(40, 52))):
        num_slots.clear()
        for row, phrase in zip(rows, decode(rows, 4, "exact"), strict=True):
            assert phrase.text == ALL[KINDS[1]][row].text
            assert abs(phrase.logprob - ALL[KINDS[1]][row].logprob) <= 1e-6
        changes += [after - before for before, after in itertools.pairwise(num_slots)]
    assert min(changes) < 0 < max(changes)


def test_rounding_changes_log_probabilities_by_little() -> None:
    assert ALL[KINDS[1]] != ALL[KINDS[2]]
    same = [(a, b) for a, b in zip(ALL[KINDS[1]], ALL[KINDS[2]], strict=True) if a.text == b.text]
    assert len(same) > 16
    assert max(abs(a.logprob - b.logprob) for a, b in same) < 0.1


def test_the_phrases_differ_so_that_a_mix_up_would_show() -> None:
    assert len({phrase.text for phrase in ALL[KINDS[1]]}) > 32
    assert len({len(phrase.text.split()) for phrase in ALL[KINDS[1]]}) > 4
    assert {phrase.is_finished for phrase in ALL[KINDS[1]]} == {True, False}
