"""Some rows of a split that stand for all of it, since rows that lie together in an archive are alike.

Row groups are spaced evenly over the split, so that an archive of any size costs as much as is asked for; one group is
held at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from crrg.config.references import DatasetRef
from crrg.data.dataset.reader import PairReader
from crrg.domain.study import Film, Pair, Split
from crrg.storage import Storage

ROWS_PER_GROUP = 8
"""Rows that a sample takes of a row group of 32 where the split has many: a quarter of what is read is used."""


def spaced_rows(storage: Storage, dataset: DatasetRef, split: Split, most: int) -> Iterator[Pair]:
    """Yield all rows of evenly spaced row groups, about as many as asked for.

    Args:
        storage: Root with the dataset.
        dataset: The version to read.
        split: Part of it.
        most: About how many rows.
    """
    reader = PairReader(storage, dataset, split)
    num_groups, num_rows = len(reader.group_sizes), len(reader)
    wanted = num_groups if num_rows <= most else max(1, num_groups * most // num_rows)
    for group in _spaced(num_groups, wanted):
        yield from reader.group(group)


def sampled_films(
    storage: Storage, dataset: DatasetRef, split: Split, most: int = 0, *, seed: int = 0
) -> Iterator[tuple[Pair, Film]]:
    """Yield frontal films drawn by a seed from evenly spaced row groups, in the order of the dataset.

    Args:
        storage: Root with the dataset.
        dataset: The version to read.
        split: Part of it.
        most: Most films; 0 takes all. Fewer come where the split has hardly more rows, some of them without a frontal
            film.
        seed: Decides which films of a row group are taken.
    """
    reader = PairReader(storage, dataset, split)
    sizes = reader.group_sizes
    most = min(most, len(reader)) if most else len(reader)
    fewest = -(-most * len(sizes) // max(1, len(reader)))
    groups = _spaced(len(sizes), max(fewest, min(len(sizes), -(-most // ROWS_PER_GROUP))))
    num_left, rows_left = most, sum(sizes[group] for group in groups)
    for group in groups:
        films = [(pair, pair.film) for pair in reader.group(group) if pair.film and pair.film.view_position.is_frontal]
        share = -(-num_left * sizes[group] // rows_left)
        chosen = np.random.default_rng([seed, group]).permutation(len(films))[:share]
        num_left, rows_left = num_left - len(chosen), rows_left - sizes[group]
        yield from (films[row] for row in sorted(chosen.tolist()))


def spread_rows(num_rows: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return which rows of a table stand for all: one is drawn from each of equal stretches, all are taken of few.

    Args:
        num_rows: Rows of the table.
        most: Most rows to take.
        seed: Decides which row of a stretch is drawn.

    Returns:
        Row numbers ``[min(num_rows, most)]``, ascending.
    """
    if num_rows <= most:
        return np.arange(num_rows)
    ends = np.arange(most + 1) * num_rows // most
    return np.random.default_rng(seed).integers(ends[:-1], ends[1:])


def _spaced(num_groups: int, wanted: int) -> list[int]:
    return [place * num_groups // wanted for place in range(wanted)]
