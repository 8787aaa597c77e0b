"""Runs of one to four tokens in pairs of texts, counted for all pairs at once.

BLEU and CIDEr-D are made of the same counts (``text``), which take longer than everything else of them. Tokens and runs
are numbers here, so that sorting counts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crrg.evaluation.protocols import Tokens

NGram: TypeAlias = tuple[str, ...]
MAX_ORDER = 4
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class SideCounts:
    """Runs of one length in the drafts, or in the references: ``K`` different ones of a text each.

    Attributes:
        texts: Pair that each stands in ``[K]``.
        runs: Which run it is ``[K]``.
        counts: How often it stands there ``[K]``.
    """

    texts: Numbers
    runs: Numbers
    counts: Numbers


@dataclass(frozen=True)
class OrderCounts:
    """Runs of one length in all texts.

    Attributes:
        candidates: In the drafts.
        references: In the references.
        shared: Rows of ``candidates`` and rows of ``references`` ``[2, S]`` of runs that both texts of a pair have.
        places: Where in the tokens of all texts each run stands once ``[R]``.
    """

    candidates: SideCounts
    references: SideCounts
    shared: Numbers
    places: Numbers


@dataclass(frozen=True)
class PairCounts:
    """Runs of tokens in ``B`` pairs of texts.

    Attributes:
        candidate_lengths: Tokens of each draft ``[B]``.
        reference_lengths: Tokens of each reference ``[B]``.
        orders: Runs of one to four tokens.
        tokens: Of all texts.
    """

    candidate_lengths: Numbers
    reference_lengths: Numbers
    orders: tuple[OrderCounts, ...]
    tokens: Sequence[str]

    def frequencies(self, order: int, known: Mapping[NGram, int] | None) -> NDArray[np.float64]:
        """Return in how many documents each run ``[R]`` of ``order`` + 1 tokens stands.

        Args:
            order: Place in ``orders``.
            known: Numbers of documents by run, 0 where it is missing; those of the references by default.
        """
        found = self.orders[order]
        if known is None:
            return np.bincount(found.references.runs, minlength=len(found.places)).astype(float)
        runs = (tuple(self.tokens[place : place + order + 1]) for place in found.places.tolist())
        return np.array([known.get(run, 0) for run in runs], dtype=float)


def count_pairs(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> PairCounts:
    """Count the runs of tokens of drafts and references in the same order."""
    texts = [*candidates, *references]
    lengths = np.array([len(tokens) for tokens in texts], dtype=np.int64)
    tokens = [token for text in texts for token in text]
    numbers: dict[str, int] = {}
    words = np.array([numbers.setdefault(token, len(numbers)) for token in tokens], dtype=np.int64)
    owners = np.repeat(np.arange(len(texts)), lengths)
    places = np.arange(len(words))
    left = np.repeat(np.cumsum(lengths), lengths) - places
    runs, orders = words, []
    for order in range(MAX_ORDER):
        if order:
            fits = left[places] > order
            places, runs = places[fits], runs[fits]
            runs = np.unique(runs * len(numbers) + words[places + order], return_inverse=True)[1].reshape(-1)
        orders.append(_count(runs, places, owners[places], len(candidates)))
    return PairCounts(lengths[: len(candidates)], lengths[len(candidates) :], tuple(orders), tokens)


def _count(runs: Numbers, places: Numbers, owners: Numbers, num_pairs: int) -> OrderCounts:
    num_runs = int(runs.max()) + 1 if len(runs) else 0
    keys, counts = np.unique(owners * num_runs + runs, return_counts=True)
    middle = int(np.searchsorted(keys, num_pairs * num_runs))
    drafted, told = keys[:middle], keys[middle:] - num_pairs * num_runs
    shared = np.intersect1d(drafted, told, assume_unique=True, return_indices=True)[1:]
    somewhere = np.zeros(num_runs, dtype=np.int64)
    somewhere[runs] = places
    return OrderCounts(
        _side(drafted, counts[:middle], num_runs), _side(told, counts[middle:], num_runs), np.stack(shared), somewhere
    )


def _side(keys: Numbers, counts: Numbers, num_runs: int) -> SideCounts:
    texts, runs = np.divmod(keys, max(num_runs, 1))
    return SideCounts(texts, runs, counts)
