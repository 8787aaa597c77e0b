"""Chooses the probabilities from which something counts as present, by F1 on validation films.

A threshold of one half would call rare findings absent everywhere, and every draft would be normal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_ROUNDS = 20
NEVER = 1.01
"""A threshold no probability reaches."""

FloatArray = NDArray[np.floating]


def f1_threshold(probabilities: FloatArray, references: FloatArray, *, default: float = 0.5) -> float:
    """Return the threshold with the highest F1.

    Args:
        probabilities: Any shape, 0..1.
        references: Same shape: 1, 0, or NaN where unknown.
        default: Returned where there is no positive to learn from.
    """
    known = np.isfinite(references)
    scores, wanted = probabilities[known], references[known] == 1
    if not wanted.any():
        return default
    limits, hits, calls = _operating_points(scores, wanted)
    return float(limits[np.argmax(2 * hits / (calls + wanted.sum()))])


def count_threshold(
    probabilities: FloatArray, is_chosen: NDArray[np.bool_], references: FloatArray, *, default: float = 0.5
) -> float:
    """Return the threshold at which as many entries are chosen as the references have, so that drafts are as long.

    Args:
        probabilities: Any shape, 0..1.
        is_chosen: Same shape; entries that are chosen whatever the threshold.
        references: Same shape: 1, 0, or NaN where unknown.
        default: Returned where nothing is known.
    """
    known = np.isfinite(references)
    if not known.any():
        return default
    num_open = int((references[known] == 1).sum()) - int(is_chosen[known].sum())
    ranked = np.sort(probabilities[known & ~is_chosen])[::-1]
    if num_open <= 0 or len(ranked) == 0:
        return NEVER
    return float(ranked[min(num_open, len(ranked)) - 1])


def micro_f1_thresholds(probabilities: FloatArray, references: FloatArray) -> list[float]:
    """Return one threshold per label so that F1 over all labels together is highest.

    Labels that the scores hardly tell apart are then called less often than their own F1 would have it: an all-positive
    label has a fair F1 alone, and spoils the reports. Found by Dinkelbach's method: given F, each label takes the
    threshold that maximises 2 hits - F calls, which gives a higher F, until it stays.

    Args:
        probabilities: ``[N, K]``, 0..1.
        references: ``[N, K]``: 1, 0, or NaN where unknown.

    Returns:
        ``K`` thresholds; one half for a label without a positive.
    """
    known = np.isfinite(references)
    wanted = known & (references == 1)
    points = [
        _operating_points(probabilities[known[:, k], k], wanted[known[:, k], k]) if wanted[:, k].any() else None
        for k in range(references.shape[1])
    ]
    best_f1, thresholds = 0.0, [0.5] * len(points)
    for _ in range(MAX_ROUNDS):
        total_hits, total_calls, chosen = 0.0, 0.0, list(thresholds)
        for k, point in enumerate(points):
            if point is None:
                continue
            limits, hits, calls = point
            best = int(np.argmax(2 * hits - best_f1 * calls))
            chosen[k] = float(limits[best])
            total_hits, total_calls = total_hits + hits[best], total_calls + calls[best]
        f1 = 2 * total_hits / (total_calls + wanted.sum()) if wanted.any() else 0.0
        if f1 <= best_f1:
            break
        best_f1, thresholds = f1, chosen
    return thresholds


def _operating_points(scores: FloatArray, wanted: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return thresholds midway between neighbouring scores with their hits and calls, the last calling nothing less."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(float)
    hits = np.cumsum(wanted[order]).astype(float)
    calls = np.arange(1, len(ranked) + 1, dtype=float)
    last_of_tie = np.append(np.diff(ranked) != 0, True)
    following = np.append(ranked[1:], ranked[-1])
    limits = np.where(np.arange(len(ranked)) == len(ranked) - 1, ranked, (ranked + following) / 2)
    none = np.zeros(1)
    return (
        np.concatenate([[NEVER], limits[last_of_tie]]),
        np.concatenate([none, hits[last_of_tie]]),
        np.concatenate([none, calls[last_of_tie]]),
    )
