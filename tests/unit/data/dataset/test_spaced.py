"""Samples of a split stand for all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crrg.data.dataset import parts
from crrg.data.dataset.batches import sample_films
from crrg.data.dataset.pairs import write_dataset
from crrg.data.dataset.spaced import sampled_films, spaced_rows, spread_rows
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


def test_films_of_a_sample_are_those_drawn_at_the_size_of_a_model(drawn) -> None:
    films = sample_films(*drawn, Split.TRAIN, 16, 12)
    assert [int(each) for each in films.instance_ids] == numbers(sampled_films(*drawn, Split.TRAIN, 12))
    assert films.images.shape == (len(films), 16, 16)
    assert films.images.max(axis=(1, 2)).tolist() == [int(each) for each in films.instance_ids]
    assert len(sample_films(*drawn, Split.TRAIN, 16, 0)) == NUM_ROWS // 2
    assert sample_films(*drawn, Split.VALIDATION, 16, 12).images.shape == (0, 16, 16)


def test_rows_that_stand_for_a_table_lie_all_over_it() -> None:
    rows = spread_rows(1000, 10, 3)
    assert (rows // 100).tolist() == list(range(10))
    assert rows.tolist() == spread_rows(1000, 10, 3).tolist() != spread_rows(1000, 10, 4).tolist()
    assert len(set((rows % 100).tolist())) > 1, "a table with a period is not met at one place of it"
    assert spread_rows(4, 10, 3).tolist() == [0, 1, 2, 3]
    assert spread_rows(0, 10, 3).tolist() == []
    assert len(set(spread_rows(11, 10, 3).tolist())) == 10
