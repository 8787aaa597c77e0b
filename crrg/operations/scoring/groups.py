"""The main figures of a scorecard by kind of film: view, archive, sex, age band and maker, where a dataset says them.

A film of which one of these is unknown is in no group of that kind; it counts among all films, beside which every group
stands, as it does beside what needs no model on its own films.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crrg.domain.study import Pair, ViewPosition
from crrg.evaluation.bootstrap import bootstrap_interval
from crrg.evaluation.compared import beside_values
from crrg.evaluation.scorecard import Figure
from crrg.operations.scoring.main_figures import MainFigure

MIN_PATIENTS = 20
"""A group of fewer patients is not shown, however many films they have: its interval would say nothing."""
NUM_SAMPLES = 200
GROUPINGS: Mapping[str, Callable[[Pair], str]] = {
    "view": lambda pair: (
        "" if pair.film is None or pair.film.view_position is ViewPosition.UNKNOWN else pair.film.view_position.value
    ),
    "source": lambda pair: pair.source,
    "sex": lambda pair: pair.acquisition.sex or "",
    "age_band": lambda pair: pair.acquisition.age_band or "",
    "manufacturer": lambda pair: pair.acquisition.manufacturer or "",
}
"""Kind of group to the group of a film, empty where unknown."""
Rows = NDArray[np.int64]


def group_figures(pairs: Sequence[Pair], main: Mapping[str, MainFigure]) -> list[Figure]:
    """Return figures of every large enough group, each beside the same of all films and its baseline on the group.

    Args:
        pairs: The films that were scored.
        main: Figures by name, as functions of the rows of films that they are of.

    Returns:
        ``<grouping>/<group>/<figure>`` with 95 % intervals over patients; nothing for a group that holds all films, and
        no figure that a group has not.
    """
    whole = {name: figure.of_drafts(np.arange(len(pairs))) for name, figure in main.items()}
    figures = []
    for grouping, group_of in GROUPINGS.items():
        groups = np.array([group_of(pair) for pair in pairs])
        for group in np.unique(groups[groups != ""]).tolist():
            rows = np.flatnonzero(groups == group)
            patients = [pairs[row].patient_id for row in rows.tolist()]
            if len(set(patients)) < MIN_PATIENTS or len(rows) == len(pairs):
                continue
            for name, figure in main.items():
                value = figure.of_drafts(rows)
                if not np.isfinite(value):
                    continue
                beside = {"all films": whole[name]}
                if figure.of_rival is not None:
                    beside[figure.rival] = figure.of_rival(rows)
                interval = _interval(figure, rows, patients)
                figures += beside_values(f"{grouping}/{group}/{name}", value, interval, beside)
    return figures


def _interval(figure: MainFigure, rows: Rows, patients: Sequence[str]) -> tuple[float, float]:
    known = None if figure.known is None else figure.known[rows]
    return bootstrap_interval(
        lambda drawn: figure.of_drafts(rows[drawn]), patients, known=known, num_samples=NUM_SAMPLES
    )
