"""Samples of a split stand for all of it."""

from __future__ import annotations

from collections.abc import Sequence
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


def make_pair(number: int, *, has_film: bool = True) -> Pair:
    """Return a row; every second film is lateral, the first half of the archive is another clinic's."""
    digest = number.to_bytes(32, "big")
    film = Film(
        pixels=np.full((8, 8), number % 256, dtype=np.uint8),
        original_width=8,
        original_height=8,
        view_position=ViewPosition.LATERAL if number % 2 else ViewPosition.PA,
        pixel_spacing_mm=None,
        polarity_inverted=False,
        pixel_digest=digest,
    )
    return Pair(
        patient_id=f"patient{number}", study_id=f"study{number}",
        instance_id=f"{number:04d}" if has_film else "", film=film if has_film else None,
        report=Report(), regions=(), labels=dict.fromkeys(LABELS, 0), label_source="drawn", source="phantom",
        source_digest=digest, split=Split.TRAIN,
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


@pytest.mark.parametrize(
    "films", [range(0, 2000, 10), range(0, 2000, 30), range(1920, 2000), range(0, 80), [*range(64, 96), 1000, 1998]]
)
def test_as_many_come_as_there_are_however_few_rows_have_a_film(tmp_path: Path, films: Sequence[int]) -> None:
    storage = Storage(str(tmp_path))
    pairs = [make_pair(number, has_film=number in films) for number in range(2000)]
    dataset = write_dataset(storage, "rows", pairs, {})
    frontal = [number for number in films if number % 2 == 0]
    for most in (5, 16, 64):
        chosen = numbers(sampled_films(storage, dataset, Split.TRAIN, most))
        assert len(set(chosen)) == min(most, len(frontal))
        assert chosen == sorted(chosen)
        assert set(chosen) <= set(frontal)


def test_only_rows_that_are_to_be_kept_count(drawn) -> None:
    chosen = numbers(sampled_films(*drawn, Split.TRAIN, 9, keep=lambda pair: int(pair.instance_id) % 10 == 0))
    assert len(chosen) == 9
    assert all(number % 10 == 0 for number in chosen)


def test_what_is_drawn_where_films_are_many_stays_the_same(drawn) -> None:
    assert numbers(sampled_films(*drawn, Split.TRAIN, 12)) == [0, 4, 6, 8, 20, 22, 64, 66, 68, 74, 80, 92]


def test_no_more_row_groups_are_read_than_hold_enough_films(drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    from crrg.data.dataset.reader import PairReader

    read: list[int] = []
    plain = PairReader.group
    monkeypatch.setattr(PairReader, "group", lambda self, index: read.append(index) or plain(self, index))
    films = sampled_films(*drawn, Split.TRAIN, 12)
    assert read == []
    list(films)
    assert len(set(read)) == 2 < -(-NUM_ROWS // parts.ROW_GROUP_ROWS)
    assert len(read) == 4, "once to choose, once to yield"
    read.clear()
    next(sampled_films(*drawn, Split.TRAIN))
    assert len(read) == 1, "one is held at a time"


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
