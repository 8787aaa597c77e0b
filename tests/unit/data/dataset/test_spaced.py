"""Samples of a split stand for all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crrg.data.dataset import parts
from crrg.data.dataset.pairs import write_dataset
from crrg.data.dataset.spaced import sampled_films, spaced_rows
from crrg.domain.labels import LABELS
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, Split, ViewPosition
from crrg.storage import Storage

NUM_ROWS = 120


def make_pair(number: int) -> Pair:
    """Return a row; every second film is lateral, the first half of the archive is another clinic's."""
    film = Film(
        pixels=np.full((8, 8), number, dtype=np.uint8),
        original_width=8,
        original_height=8,
        view_position=ViewPosition.LATERAL if number % 2 else ViewPosition.PA,
        pixel_spacing_mm=None,
        polarity_inverted=False,
        pixel_digest=bytes([number] * 32),
    )
    return Pair(
        patient_id=f"patient{number}", study_id=f"study{number}", instance_id=f"{number:03d}", film=film,
        report=Report(), regions=(), labels=dict.fromkeys(LABELS, 0), label_source="drawn", source="phantom",
        source_digest=bytes([number] * 32), split=Split.TRAIN,
    )  # fmt: skip


@pytest.fixture
def drawn(tmp_path: Path):
    storage = Storage(str(tmp_path))
    return storage, write_dataset(storage, "rows", [make_pair(number) for number in range(NUM_ROWS)], {})


def numbers(films) -> list[int]:
    return [int(pair.instance_id) for pair, _ in films]


def test_a_sample_comes_from_the_whole_split(drawn) -> None:
    chosen = numbers(sampled_films(*drawn, Split.TRAIN, 12))
    assert len(set(chosen)) == 12
    assert chosen == sorted(chosen)
    assert all(number % 2 == 0 for number in chosen), "frontal films only"
    assert max(chosen) > NUM_ROWS / 2, "not the first rows of the archive"
    assert chosen == numbers(sampled_films(*drawn, Split.TRAIN, 12))
    assert chosen != numbers(sampled_films(*drawn, Split.TRAIN, 12, seed=1))


def test_all_are_all_of_them(drawn) -> None:
    every = list(range(0, NUM_ROWS, 2))
    assert numbers(sampled_films(*drawn, Split.TRAIN)) == every
    assert numbers(sampled_films(*drawn, Split.TRAIN, 10_000)) == every
    assert numbers(sampled_films(*drawn, Split.VALIDATION, 5)) == []
    assert [int(pair.instance_id) for pair in spaced_rows(*drawn, Split.TRAIN, 10_000)] == list(range(NUM_ROWS))


def test_one_row_group_is_held_at_a_time(drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    from crrg.data.dataset.reader import PairReader

    read: list[int] = []
    plain = PairReader.group
    monkeypatch.setattr(PairReader, "group", lambda self, index: read.append(index) or plain(self, index))
    films = sampled_films(*drawn, Split.TRAIN, 12)
    assert read == []
    next(films)
    assert len(read) == 1
    list(films)
    assert len(read) <= -(-NUM_ROWS // parts.ROW_GROUP_ROWS)
