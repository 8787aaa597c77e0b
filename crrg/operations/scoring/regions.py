"""The regions of a scorecard: drafts and annotations as arrays, and which of them are known at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crrg.domain.regions import NUM_REGIONS, REGION_INDEX
from crrg.evaluation.bootstrap import Resampling
from crrg.evaluation.detection import mean_box_candidates, told_regions
from crrg.evaluation.detection_figures import Boxes, abnormality_figures, detection_figures, selection_figures
from crrg.evaluation.scorecard import Figure
from crrg.operations.scoring.cases import Baselines, Case

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class RegionArrays:
    """Drafts and references of ``N`` films by region, in original pixels.

    Attributes:
        truth: Annotated boxes ``[N, 29, 4]``, NaN where not annotated.
        has_phrase: bool ``[N, 29]``, whether the report speaks of the region.
        is_told: bool ``[N, 29]``, whether it is known that it does or does not (``told_regions``).
        is_abnormal: ``[N, 29]``, 1 or 0, NaN where unknown.
        given: Drafted boxes.
        selected: bool ``[N, 29]``.
        abnormal_probabilities: ``[N, 29]``.
        sizes: Width and height of the films ``[N, 2]``.
    """

    truth: FloatArray
    has_phrase: BoolArray
    is_told: BoolArray
    is_abnormal: FloatArray
    given: Boxes
    selected: BoolArray
    abnormal_probabilities: FloatArray
    sizes: FloatArray


def region_arrays(cases: Sequence[Case]) -> RegionArrays:
    """Return drafts and references as arrays."""
    shape = (len(cases), NUM_REGIONS)
    truth, has_phrase, is_abnormal = np.full((*shape, 4), np.nan), np.zeros(shape, dtype=bool), np.full(shape, np.nan)
    for row, case in enumerate(cases):
        for region in case.reference.regions:
            column = REGION_INDEX[region.region]
            truth[row, column], has_phrase[row, column] = region.box_xyxy, region.phrase is not None
            if region.is_abnormal is not None:
                is_abnormal[row, column] = region.is_abnormal
    regions = [case.draft.regions for case in cases]
    films = [case.reference.film for case in cases]
    return RegionArrays(
        truth,
        has_phrase,
        told_regions(np.isfinite(truth).all(axis=-1), has_phrase),
        is_abnormal,
        given=Boxes(
            boxes=np.array([[region.box_xyxy for region in row] for row in regions], dtype=float),
            scores=np.array([[region.score for region in row] for row in regions], dtype=float),
            detected=np.array([[region.detected for region in row] for row in regions]),
        ),
        selected=np.array([[region.selected for region in row] for row in regions]),
        abnormal_probabilities=np.array([[region.abnormal_probability for region in row] for row in regions]),
        sizes=np.array(
            [[film.original_width, film.original_height] for film in films if film is not None], dtype=float
        ),
    )


def region_figures(
    cases: Sequence[Case], known: Baselines, samples: Resampling, abnormal_threshold: float | None
) -> list[Figure]:
    """Return detection, selection and abnormality of drafts, beside the mean box, the usual regions and all regions.

    Without a training film there is neither a mean box nor a usual region.

    Args:
        cases: Drafts and references.
        known: Baselines of the training dataset.
        samples: Samples of the cases' patients.
        abnormal_threshold: Probability from which a region is called abnormal; ``None`` leaves abnormality out.
    """
    arrays = region_arrays(cases)
    constant, rivals = None, {"always select": np.ones(NUM_REGIONS, dtype=np.bool_)}
    if known.is_fitted:
        constant = Boxes.constant(np.asarray(mean_box_candidates(known.mean_boxes, arrays.sizes), dtype=np.float64))
        rivals["usual regions"] = known.usual_regions
    figures = detection_figures(arrays.given, arrays.truth, samples, constant)
    figures += selection_figures(
        arrays.selected, arrays.has_phrase, arrays.is_told, arrays.is_abnormal, samples, rivals
    )
    if abnormal_threshold is None:
        return figures
    called = arrays.abnormal_probabilities >= abnormal_threshold
    return figures + abnormality_figures(called, arrays.is_abnormal, arrays.given.detected, samples)
