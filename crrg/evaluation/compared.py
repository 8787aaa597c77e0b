"""A figure with its interval beside the same figure of each baseline, on the same films."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from crrg.evaluation.bootstrap import Resampling, Statistic
from crrg.evaluation.scorecard import Figure


def compared(
    name: str, statistic: Statistic, samples: Resampling, rivals: Mapping[str, Statistic], *, is_detail: bool = False
) -> list[Figure]:
    """Return one row of a scorecard for each baseline, or one row without; none where the figure has no value.

    Args:
        name: Family and metric.
        statistic: The model's.
        samples: Samples of the patients of its rows.
        rivals: Each baseline's, by name.
        is_detail: Whether it is of one region or one label.
    """
    values = {rival: other.value() for rival, other in rivals.items()}
    rows = beside_values(name, statistic.value(), samples.interval(statistic), values)
    return [replace(row, is_detail=True) for row in rows] if is_detail else rows


def beside_values(
    name: str, value: float, interval: Sequence[float | None], rivals: Mapping[str, float]
) -> list[Figure]:
    """Return one row for each baseline's value, or one row without; none where the figure has no value."""
    if not math.isfinite(value):
        return []
    low, high = interval
    if not rivals:
        return [Figure(name, value, low, high)]
    return [Figure(name, value, low, high, rival, other) for rival, other in rivals.items()]
