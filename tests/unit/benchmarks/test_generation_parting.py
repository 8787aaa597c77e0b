"""Sentences that differ from the published ones: the step at which the searches part, and whether it is a near tie."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.generation.models import END_ID
from benchmarks.generation.parting import where_parted
from benchmarks.generation.passes import differing
from benchmarks.generation.tables import markdown

A, B, C, D = 11, 12, 13, 14


def row(sentences: list[tuple[str, float]]) -> dict[str, Any]:
    stages = {"detection": 1.0, "decoding": 1.0}
    report = [[text, -1.0, gap] for text, gap in sentences]
    kept = [text for text, _ in sentences]
    own = {"cpu_s": [0.0], "wall_s": [0.0]}
    times = {"cpu_s": stages, "wall_s": stages, "deduplication": own}
    return {**times, "num_films": 1, "reports": [report], "kept": [kept]}


def test_searches_part_where_they_keep_other_hypotheses() -> None:
    first = {(A,): -1.0, (B,): -1.5, (C,): -2.0}
    published = [first, {(A, C): -2.0, (B, A): -3.0, (B, C): -3.0002}]
    ours = [{(A,): -1.001, (B,): -1.5, (C,): -2.0}, {(A, C): -2.0, (B, C): -3.0001, (B, A): -3.0003}]
    found = where_parted(published, ours, num_beams=2)
    assert found.step == 1
    # the published search prefers (B, A) by 0.0002 of two words and the begin token
    assert found.gap == pytest.approx(0.0002 / 3)
    assert found.noise == pytest.approx(0.001)


def test_the_order_of_what_is_kept_parts_nothing() -> None:
    published = [{(A,): -1.0, (B,): -1.1, (C,): -5.0}]
    assert where_parted(published, [{(B,): -1.0, (A,): -1.1, (C,): -5.0}], num_beams=2).step == -1


def test_a_hypothesis_that_ends_counts_within_the_first_ranks_only() -> None:
    published = [{(A,): -1.0, (END_ID,): -1.1, (B,): -1.2, (C,): -1.3}]
    found = where_parted(published, [{(A,): -1.0, (B,): -1.14, (END_ID,): -1.16, (C,): -1.3}], num_beams=2)
    assert (found.step, found.gap) == (0, pytest.approx(0.1 / 2))
    later = [{(A,): -1.0, (B,): -1.1, (C,): -1.2, (END_ID,): -1.3}]
    assert where_parted(later, [{(A,): -1.0, (B,): -1.1, (END_ID,): -1.2, (C,): -1.3}], num_beams=2).step == -1


def test_what_the_published_search_does_not_even_try_is_no_near_tie() -> None:
    found = where_parted([{(A,): -1.0, (B,): -1.1}], [{(A,): -1.0, (D,): -1.05, (B,): -1.1}], num_beams=2)
    assert (found.step, found.gap) == (0, float("inf"))


def test_only_a_near_tie_of_the_last_two_hypotheses_excuses_a_difference() -> None:
    rows = {
        "published/batch1/equal/films0+1/0": row([("w1 w2", 0.3), ("w3", 0.3), ("w5", 0.3), ("w7", 1e-5)]),
        "ours/batch8/equal/films0+1/0": row([("w1 w2", 0.3), ("w4", 0.3), ("w6", 0.3), ("w8", 0.3)]),
        "fast/batch8/equal/films0+1/0": row([("w1", 0.3), ("w4", 0.3), ("w6", 0.3), ("w7", 0.3)]),
    }
    assert list(differing(rows)) == [("equal", 0, 1), ("equal", 0, 2), ("equal", 0, 3)]
    assert "| ours 8 equal | 4 | 1 | 1 | 2 | 0 | 0 of 1 |" in markdown(rows)
    rows["parting/equal/film0/1"] = {"step": 24, "gap": 3e-6, "noise": 2e-5}
    rows["parting/equal/film0/2"] = {"step": 3, "gap": 2e-3, "noise": 2e-5}
    tables = markdown(rows)
    # where the searches part earlier is said beside it
    assert "| ours 8 equal | 4 | 1 | 1 | 2 | 1 | 0 of 1 |" in tables
    # int8 parts elsewhere, for other reasons
    assert "| fast 8 equal | 4 | 1 | 0 | 3 | 0 | 0 of 1 |" in tables
    assert "| equal, film 0, sentence 1 | 25 | 3.0e-06 | 2.0e-05 |" in tables
