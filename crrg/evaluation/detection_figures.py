"""The figures of boxes, of the choice of regions and of their abnormality, with intervals and beside baselines.

``detection/compat_iou`` is what RGRG calls IoU: areas summed over films, large regions dominating, the box of a missed
region counting in the union. It is made of boxes that have seen no reference, which RGRG's have.

Source: RGRG (Tanida et al., CVPR 2023), evaluation of its detector and of its two region classifiers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crrg.domain.boxes import FloatArray
from crrg.domain.regions import REGIONS
from crrg.evaluation.bootstrap import Resampling, Statistic, mean_statistic, ratio
from crrg.evaluation.clinical import decision_counts, f1_from_counts, precision_from_counts, recall_from_counts
from crrg.evaluation.compared import beside_values, compared
from crrg.evaluation.detection import (
    LEAST_IOU,
    mean_average_precision,
    mean_iou_per_region,
    overlap_areas,
    region_iou,
)
from crrg.evaluation.scorecard import Figure

BoolArray = NDArray[np.bool_]
MEAN_BOX = "mean box"
_PARTS = {"f1": f1_from_counts, "precision": precision_from_counts, "recall": recall_from_counts}


@dataclass(frozen=True)
class Boxes:
    """Boxes that somebody gives, one of each region on each film.

    Attributes:
        boxes: ``[B, 29, 4]``.
        scores: ``[B, 29]``, by which they are ranked.
        detected: ``[B, 29]``.
    """

    boxes: FloatArray
    scores: FloatArray
    detected: BoolArray

    @classmethod
    def constant(cls, boxes: FloatArray) -> Boxes:
        """Return boxes ``[B, 29, 4]`` that are always offered, none rather than another."""
        shape = boxes.shape[:2]
        return cls(boxes, np.ones(shape), np.ones(shape, dtype=np.bool_))


def detection_figures(
    given: Boxes, references: FloatArray, samples: Resampling, constant: Boxes | None
) -> list[Figure]:
    """Return the figures of boxes with 95 % intervals over patients, each beside the mean box.

    Args:
        given: The model's, whose proposals have not seen the references.
        references: ``[B, 29, 4]``, same frame, NaN where not annotated.
        samples: Samples of the films' patients.
        constant: The mean box of each region; ``None`` where nobody knows one.

    Returns:
        ``detection/mean_region_iou``, ``mean_film_iou`` (mean over films of the mean over a film's regions),
        ``recall_at_50``, ``detected_share``, ``detected_regions`` (per film), ``micro_iou``, ``compat_iou``,
        ``map_50``; ``detection/iou/<region>`` and ``compat_iou/<region>``. None where nothing is annotated.
    """
    if not np.isfinite(references[..., 0]).any():
        return []
    others = {} if constant is None else {MEAN_BOX: constant}
    rivals = {rival: _box_statistics(boxes, references) for rival, boxes in others.items()}
    figures = [
        row
        for name, statistic in _box_statistics(given, references).items()
        for row in compared(
            f"detection/{name}",
            statistic,
            samples,
            {rival: other[name] for rival, other in rivals.items()},
            is_detail="/" in name,
        )
    ]
    iou, scores = overlaps(given, references), given.scores
    value = _average_precision(given, references)
    interval = samples.weighted_interval(
        lambda weights: mean_average_precision(iou, scores, given.detected, weights), np.isfinite(iou)
    )
    beside = {rival: _average_precision(boxes, references) for rival, boxes in others.items()}
    return [*figures, *beside_values("detection/map_50", value, interval, beside)]


def overlaps(given: Boxes, references: FloatArray) -> FloatArray:
    """Return the IoU ``[B, 29]``: 0 where a region was not found, NaN where it is not annotated."""
    missed = np.where(np.isnan(references[..., 0]), np.nan, 0.0)
    return np.where(given.detected, region_iou(given.boxes, references), missed)


def mean_of_regions(iou: FloatArray) -> float:
    """Return the mean over regions of the mean over films of ``[B, R]``; regions annotated nowhere are left out."""
    per_region = mean_iou_per_region(iou)
    known = per_region[~np.isnan(per_region)]
    return float(known.mean()) if len(known) else float("nan")


def selection_figures(
    selected: BoolArray,
    has_phrase: BoolArray,
    counted: BoolArray,
    is_abnormal: FloatArray,
    samples: Resampling,
    rivals: Mapping[str, BoolArray],
) -> list[Figure]:
    """Return how well the regions that got a sentence were chosen: of all, of normal and of abnormal regions.

    Args:
        selected: ``[B, R]``; a region that was not found is not selected.
        has_phrase: ``[B, R]``, whether the report speaks of the region.
        counted: ``[B, R]``, whether it is known that it does or does not.
        is_abnormal: ``[B, R]``: 1, 0, NaN where unknown; a region without phrase counts as normal there.
        samples: Samples of the films' patients.
        rivals: What each baseline selects.

    Returns:
        ``selection/f1``, ``precision``, ``recall``, and the same with ``normal_`` and ``abnormal_`` before them. Since
        every abnormal region has a phrase, ``abnormal_precision`` is 1. None where nothing is known.
    """
    abnormal = is_abnormal == 1
    normal = (is_abnormal == 0) | (~has_phrase & ~abnormal)
    subsets = {"": counted, "normal_": counted & normal, "abnormal_": counted & abnormal}
    return [
        row
        for subset, entries in subsets.items()
        if (has_phrase & entries).any()
        for row in _decision_figures(f"selection/{subset}", selected, has_phrase, entries, samples, rivals)
    ]


def abnormality_figures(
    called: BoolArray, is_abnormal: FloatArray, detected: BoolArray, samples: Resampling
) -> list[Figure]:
    """Return how well abnormal regions were told, of the regions that were found, beside calling all abnormal.

    Args:
        called: ``[B, R]``.
        is_abnormal: ``[B, R]``: 1, 0, NaN where unknown.
        detected: ``[B, R]``.
        samples: Samples of the films' patients.

    Returns:
        ``abnormality/f1``, ``precision`` and ``recall``; none where no region is known to be abnormal.
    """
    counted = np.isfinite(is_abnormal) & detected
    wanted = is_abnormal == 1
    if not (wanted & counted).any():
        return []
    rivals = {"all abnormal": np.ones_like(called)}
    return _decision_figures("abnormality/", called, wanted, counted, samples, rivals)


def _average_precision(boxes: Boxes, references: FloatArray) -> float:
    return float(mean_average_precision(overlaps(boxes, references), boxes.scores, boxes.detected)[0])


def _decision_figures(
    prefix: str,
    found: BoolArray,
    wanted: BoolArray,
    counted: BoolArray,
    samples: Resampling,
    rivals: Mapping[str, BoolArray],
) -> list[Figure]:
    counts = decision_counts(found, wanted, counted)
    others = {
        name: decision_counts(np.broadcast_to(given, wanted.shape), wanted, counted) for name, given in rivals.items()
    }
    return [
        row
        for name, combine in _PARTS.items()
        for row in compared(
            f"{prefix}{name}",
            Statistic(counts, combine, empty=0.0),
            samples,
            {rival: Statistic(other, combine, empty=0.0) for rival, other in others.items()},
        )
    ]


def _box_statistics(given: Boxes, references: FloatArray) -> dict[str, Statistic]:
    iou = overlaps(given, references).astype(np.float64)
    known = ~np.isnan(iou)
    filled = np.where(known, iou, 0.0)
    number = known.sum(axis=1)
    per_film = np.divide(filled.sum(axis=1), number, out=np.full(len(iou), np.nan), where=number > 0)
    found = (given.detected & known).sum(axis=1)
    shared, union = overlap_areas(given.boxes, references, given.detected)
    compat = overlap_areas(given.boxes, references, given.detected, counts_missed_boxes=True)
    statistics = {
        "mean_region_iou": Statistic(np.concatenate([filled, known], axis=1), _mean_over_regions),
        "mean_film_iou": mean_statistic(per_film),
        "recall_at_50": _share((filled >= LEAST_IOU).sum(axis=1), number),
        "detected_share": _share(found, number),
        "detected_regions": _share(found, number > 0),
        "micro_iou": _share(shared.sum(axis=1), union.sum(axis=1)),
        "compat_iou": _share(compat[0].sum(axis=1), compat[1].sum(axis=1)),
    }
    for region, name in enumerate(REGIONS):
        statistics[f"iou/{name}"] = mean_statistic(iou[:, region])
        statistics[f"compat_iou/{name}"] = _share(compat[0][:, region], compat[1][:, region])
    return statistics


def _share(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Statistic:
    return Statistic(np.stack([part, whole], axis=1).astype(float), ratio)


def _mean_over_regions(sums: NDArray[np.float64]) -> float:
    """Return the mean over regions of sums ``[2 R]``: total of each region, then films that show it."""
    totals, counts = np.split(sums, 2)
    return float((totals[counts > 0] / counts[counts > 0]).mean()) if (counts > 0).any() else float("nan")
