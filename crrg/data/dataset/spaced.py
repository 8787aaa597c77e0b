"""Some rows of a split that stand for all of it, since rows that lie together in an archive are alike.

Row groups are spaced evenly over the split, so that an archive of any size costs as much as is asked for, where films
are not rare in it; one group is held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
    storage: Storage,
    dataset: DatasetRef,
    split: Split,
    most: int = 0,
    *,
    seed: int = 0,
    keep: Callable[[Pair], bool] = lambda _pair: True,
) -> Iterator[tuple[Pair, Film]]:
    """Yield frontal films drawn by a seed from evenly spaced row groups, in the order of the dataset.

    Where those hold too few, others are looked at as well, so that a split with few such films is read as a whole. Of
    fewer films than rows the row groups are read twice: once to choose, once to yield.

    Args:
        storage: Root with the dataset.
        dataset: The version to read.
        split: Part of it.
        most: Most films; 0 takes all. Fewer come only where the split has no more.
        seed: Decides which films of a row group are taken.
        keep: Which rows to take, beside the view.
    """
    reader = PairReader(storage, dataset, split)

    def films_of(group: int) -> list[tuple[Pair, Film]]:
        rows = ((pair, pair.film) for pair in reader.group(group))
        return [(pair, film) for pair, film in rows if film and film.view_position.is_frontal and keep(pair)]

    if not most or most >= len(reader):
        for group in range(len(reader.group_sizes)):
            yield from films_of(group)
        return
    shares = _shares(reader.group_sizes, most, lambda group: len(films_of(group)))
    for group, (taken, num_films) in sorted(shares.items()):
        if taken:
            films = films_of(group)
            chosen = np.random.default_rng([seed, group]).permutation(num_films)[:taken]
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


def _shares(sizes: Sequence[int], most: int, count: Callable[[int], int]) -> dict[int, tuple[int, int]]:
    """Return how many films to take of how many, by row group: of spaced ones, of more while films are missing.

    Args:
        sizes: Rows of each row group.
        most: Most films, below the number of rows.
        count: Returns how many films a row group has.
    """
    shares: dict[int, tuple[int, int]] = {}
    rest, num_left = list(range(len(sizes))), most
    while num_left and rest:
        wanted = max(-(-num_left * len(sizes) // sum(sizes)), -(-num_left // ROWS_PER_GROUP))
        groups = [rest[place] for place in _spaced(len(rest), min(len(rest), wanted))]
        rows_left = sum(sizes[group] for group in groups)
        for group in groups:
            num_films = count(group)
            shares[group] = min(-(-num_left * sizes[group] // rows_left), num_films), num_films
            num_left, rows_left = num_left - shares[group][0], rows_left - sizes[group]
        rest = [group for group in rest if group not in shares]
    spare = sum(num_films - taken for taken, num_films in shares.values())
    for group, (taken, num_films) in sorted(shares.items()):
        untaken = num_films - taken
        more = min(untaken, -(-num_left * untaken // max(1, spare)))
        shares[group] = taken + more, num_films
        num_left, spare = num_left - more, spare - untaken
    return shares
