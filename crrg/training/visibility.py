"""Teaches a detector to say when a film does not show a region: its scores on whole films and on films that are cut.

On a film as it is, every annotated region is visible; that a region is not annotated says nothing. What is cut off is
known, so the same films, cut, have regions that are not visible.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crrg.data.cut_films import cut_films
from crrg.data.dataset.batches import FilmTable
from crrg.data.dataset.spaced import spread_rows

MAX_FILMS = 300
"""Films that are looked at, whole and cut; a curve per region needs no more."""
FloatArray = NDArray[np.floating]


@dataclass(frozen=True)
class VisibilityCases:
    """Scores of regions of which it is known whether the film shows them.

    Attributes:
        scores: Of the detector, ``[2 N, R]``: whole films, then the same ones cut.
        visible: ``[2 N, R]``: 1 visible, 0 not, NaN unknown.
        patient_ids: Per row.
    """

    scores: FloatArray
    visible: FloatArray
    patient_ids: list[str]


def visibility_cases(films: FilmTable, score: Callable[[NDArray[np.uint8]], FloatArray], seed: int) -> VisibilityCases:
    """Score films whole and cut.

    Args:
        films: Films with annotation; of more than ``MAX_FILMS``, annotated ones are taken from all over the table.
        score: Returns the detector's scores ``[N, R]`` of model inputs ``[N, S, S]``.
        seed: Of the cuts, and of the films that are taken.
    """
    rows = _rows_to_look_at(films, seed)
    images, boxes = films.images[rows], films.input_boxes_xyxy[rows]
    sizes = films.original_sizes if films.kept_sizes is None else films.kept_sizes
    cut, shown = cut_films(images, sizes[rows], boxes, seed)
    is_annotated = np.where(np.isfinite(boxes).all(axis=-1), 1.0, np.nan)
    return VisibilityCases(
        np.concatenate([score(images), score(cut)]),
        np.concatenate([is_annotated, shown]),
        [films.patient_ids[row] for row in rows] * 2,
    )


def _rows_to_look_at(films: FilmTable, seed: int) -> NDArray[np.int64]:
    if len(films) <= MAX_FILMS:
        return np.arange(len(films))
    annotated = np.flatnonzero(films.is_annotated)
    return annotated[spread_rows(len(annotated), MAX_FILMS, seed)]
