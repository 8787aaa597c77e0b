"""The main figures of a scorecard by kind of film: view and archive, as far as the rows of a dataset say them.

Sex and age are in no column of a dataset, so nothing can be said by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crrg.domain.study import Pair
from crrg.evaluation.bootstrap import bootstrap_interval
from crrg.evaluation.scorecard import Figure

MIN_FILMS = 20
"""A group of fewer films is not shown: its interval would say nothing."""
NUM_SAMPLES = 200
GROUPINGS: Mapping[str, Callable[[Pair], str]] = {
    "view": lambda pair: pair.film.view_position.value if pair.film is not None else "",
    "source": lambda pair: pair.source,
}
Rows = NDArray[np.int64]


def group_figures(pairs: Sequence[Pair], statistics: Mapping[str, Callable[[Rows], float]]) -> list[Figure]:
    """Return figures of every large enough group, each beside the same figure of all films.

    Args:
        pairs: The films that were scored.
        statistics: Figures by name, given the rows of films that they are of.

    Returns:
        ``<grouping>/<group>/<figure>`` with 95 % intervals over patients; nothing for a grouping that puts all films
        into one group, and no figure that a group has not.
    """
    whole = {name: statistic(np.arange(len(pairs))) for name, statistic in statistics.items()}
    figures = []
    for grouping, group_of in GROUPINGS.items():
        groups = np.array([group_of(pair) for pair in pairs])
        names = np.unique(groups).tolist()
        for group in names if len(names) > 1 else []:
            rows = np.flatnonzero(groups == group)
            if len(rows) < MIN_FILMS:
                continue
            patients = [pairs[row].patient_id for row in rows.tolist()]
            for name, statistic in statistics.items():
                value = statistic(rows)
                if not np.isfinite(value):
                    continue
                low, high = _interval(statistic, rows, patients)
                figures.append(Figure(f"{grouping}/{group}/{name}", value, low, high, "all films", whole[name]))
    return figures


def _interval(statistic: Callable[[Rows], float], rows: Rows, patients: Sequence[str]) -> tuple[float, float]:
    return bootstrap_interval(lambda drawn: statistic(rows[drawn]), patients, num_samples=NUM_SAMPLES)
