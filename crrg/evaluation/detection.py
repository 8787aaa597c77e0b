"""Scores region boxes, the choice of regions, and the mean box to beat; ``detection_figures`` puts them together.

Boxes may be in any one frame, the same for candidate and reference. A region that is not annotated is left out, never
counted as wrong.

Source: per-image IoU without ground truth in the proposals, unlike the evaluation of RGRG (Tanida et al., CVPR 2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crrg.domain.boxes import FloatArray, box_area, box_iou
from crrg.domain.regions import REGIONS
from crrg.evaluation.clinical import precision_recall_f1

LEAST_IOU = 0.5
"""From which IoU a box is right, where boxes are right or wrong."""


def region_iou(candidate_boxes: FloatArray, reference_boxes: FloatArray) -> FloatArray:
    """Return the IoU of each region on each film.

    Args:
        candidate_boxes: ``[B, R, 4]``; NaN where a region was not detected, which counts as IoU 0.
        reference_boxes: ``[B, R, 4]`` in the same frame; NaN where a region is not annotated.

    Returns:
        ``[B, R]`` in 0..1, NaN where not annotated.
    """
    known = ~np.isnan(reference_boxes).any(axis=-1)
    iou = box_iou(np.nan_to_num(candidate_boxes), np.nan_to_num(reference_boxes))
    return np.asarray(np.where(known, iou, np.nan))


def score_boxes(
    candidate_boxes: FloatArray, reference_boxes: FloatArray, detected: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Score detected boxes against annotated ones.

    Args:
        candidate_boxes: ``[B, 29, 4]``.
        reference_boxes: ``[B, 29, 4]``, same frame, NaN where not annotated.
        detected: ``[B, 29]``, ``False`` counts as IoU 0; all detected by default.

    Returns:
        ``detection/mean_region_iou`` (mean over regions of the mean over films), ``detection/iou/<region>``,
        ``detection/detected_share`` and ``detection/recall_at_50`` over annotated regions, and ``detection/micro_iou``
        (total intersection over total union, in which large regions dominate; missed regions count in the union). All
        in 0..1; 0 where nothing is annotated.
    """
    known = np.asarray(~np.isnan(reference_boxes).any(axis=-1))
    if detected is None:
        detected = np.ones(known.shape, dtype=np.bool_)
    iou = np.where(detected, region_iou(candidate_boxes, reference_boxes), np.where(known, 0.0, np.nan))
    per_region = mean_iou_per_region(iou)
    figures = {"detection/mean_region_iou": _nan_mean(per_region)}
    figures["detection/detected_share"] = float(detected[known].mean()) if known.any() else 0.0
    figures["detection/recall_at_50"] = float((iou[known] >= LEAST_IOU).mean()) if known.any() else 0.0
    shared, union = (areas.sum() for areas in overlap_areas(candidate_boxes, reference_boxes, detected))
    figures["detection/micro_iou"] = float(shared / union) if union > 0 else 0.0
    names = REGIONS if iou.shape[1] == len(REGIONS) else tuple(str(i) for i in range(iou.shape[1]))
    figures.update({f"detection/iou/{name}": float(v) for name, v in zip(names, per_region, strict=True) if v == v})
    return figures


def overlap_areas(
    candidate_boxes: FloatArray,
    reference_boxes: FloatArray,
    detected: NDArray[np.bool_],
    *,
    counts_missed_boxes: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Return intersection and union of each region on each film, whose sums make area-weighted IoU.

    Args:
        candidate_boxes: ``[B, R, 4]``.
        reference_boxes: ``[B, R, 4]``, same frame, NaN where not annotated.
        detected: ``[B, R]``.
        counts_missed_boxes: Whether the box of a region that was not detected counts in the union, as RGRG has it.

    Returns:
        Two ``[B, R]`` in squared pixels, both 0 where not annotated; a missed region has no intersection.
    """
    known = ~np.isnan(reference_boxes).any(axis=-1)
    found = np.logical_and(detected, known)
    candidates, references = np.nan_to_num(candidate_boxes), np.nan_to_num(reference_boxes)
    first = np.where(known if counts_missed_boxes else found, box_area(candidates), 0.0)
    second = np.where(known, box_area(references), 0.0)
    low = np.maximum(candidates[..., :2], references[..., :2])
    high = np.minimum(candidates[..., 2:], references[..., 2:])
    shared = np.where(found, np.prod(np.clip(high - low, 0, None), axis=-1), 0.0)
    return shared, np.asarray(first + second - shared)


def mean_average_precision(
    iou: FloatArray,
    scores: FloatArray,
    detected: NDArray[np.bool_],
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return mAP: the mean over regions of the area under precision over recall, each film giving one box per region.

    A box is right from ``LEAST_IOU`` on. Precision is made non-increasing (as in VOC from 2010 on); boxes of equal
    score count as one step. A box of a region that is not annotated on its film is left out, and so is a region that is
    annotated nowhere.

    Args:
        iou: ``[B, R]`` of candidate and reference, NaN where not annotated.
        scores: ``[B, R]``, by which boxes are ranked.
        detected: ``[B, R]``; others were never offered.
        weights: ``[S, B]``, how often each film counts in each of ``S`` samples; once in one sample by default.

    Returns:
        ``[S]`` in 0..1; NaN where nothing is annotated.

    Source: Everingham et al., The Pascal Visual Object Classes Challenge, IJCV 2015.
    """
    weights = np.ones((1, len(iou))) if weights is None else weights
    known = ~np.isnan(iou)
    total, num_regions = np.zeros(len(weights)), np.zeros(len(weights))
    for region in np.flatnonzero(known.any(axis=0)):
        rows = np.flatnonzero(known[:, region] & detected[:, region])
        rows = rows[np.argsort(-scores[rows, region], kind="stable")]
        wanted = weights[:, known[:, region]].sum(axis=1)
        counted = wanted > 0
        num_regions += counted
        if not len(rows):
            continue
        falling = -scores[rows, region]
        step_ends = np.searchsorted(falling, falling, side="right") - 1
        hits = weights[:, rows] * (iou[rows, region] >= LEAST_IOU)
        seen = np.cumsum(weights[:, rows], axis=1)
        precision = (np.cumsum(hits, axis=1) / np.where(seen > 0, seen, 1.0))[:, step_ends]
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        total += np.where(counted, (hits * envelope).sum(axis=1) / np.where(counted, wanted, 1.0), 0.0)
    empty = np.full(len(weights), np.nan)
    return np.asarray(np.divide(total, num_regions, out=empty, where=num_regions > 0), dtype=np.float64)


def mean_iou_per_region(iou: FloatArray) -> FloatArray:
    """Return the mean over films ``[R]`` of IoU ``[B, R]``; NaN for a region that is annotated nowhere."""
    known = ~np.isnan(iou)
    total = np.where(known, iou, 0.0).sum(axis=0)
    empty = np.full(iou.shape[1], np.nan)
    return np.asarray(np.divide(total, known.sum(axis=0), out=empty, where=known.any(axis=0)))


def mean_box(boxes: FloatArray, sizes: FloatArray) -> FloatArray:
    """Return the mean box of each region relative to its film, the constant that a detector has to beat.

    Args:
        boxes: Training boxes ``[B, R, 4]``, NaN where not annotated.
        sizes: Width and height of the films ``[B, 2]`` in the boxes' pixels.

    Returns:
        ``[R, 4]`` as shares of width and height; the whole film for a region that is annotated nowhere.
    """
    relative = boxes / np.tile(sizes, 2)[:, None, :]
    known = ~np.isnan(relative)
    total = np.where(known, relative, 0.0).sum(axis=0)
    whole = np.broadcast_to(np.array([0.0, 0.0, 1.0, 1.0]), total.shape).copy()
    return np.asarray(np.divide(total, known.sum(axis=0), out=whole, where=known.any(axis=0)))


def mean_box_candidates(relative_boxes: FloatArray, sizes: FloatArray) -> FloatArray:
    """Return the mean boxes ``[R, 4]`` laid on films of ``sizes`` ``[B, 2]`` as candidates ``[B, R, 4]``."""
    return np.asarray(relative_boxes[None] * np.tile(sizes, 2)[:, None, :])


def told_regions(is_annotated: NDArray[np.bool_], has_phrase: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return of which regions ``[N, R]`` it is known whether the report speaks of them.

    Those with a phrase, and the other annotated ones of a film whose report is tied to regions at all: elsewhere a
    missing phrase says nothing, in training as in scoring.
    """
    return np.asarray(has_phrase | (is_annotated & has_phrase.any(axis=1, keepdims=True)))


def score_selection(
    selected: NDArray[np.bool_], has_phrase: NDArray[np.bool_], is_abnormal: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Score which regions were given a sentence.

    Args:
        selected: ``[B, R]``.
        has_phrase: ``[B, R]``, whether the reference speaks of the region.
        is_abnormal: ``[B, R]``, adds the recall of abnormal regions.

    Returns:
        ``selection/precision|recall|f1`` and ``selection/abnormal_recall`` in 0..1; 0 without a denominator.
    """
    precision, recall, f1 = precision_recall_f1(selected, has_phrase)
    figures = {"selection/precision": precision, "selection/recall": recall, "selection/f1": f1}
    if is_abnormal is not None:
        figures["selection/abnormal_recall"] = precision_recall_f1(selected, is_abnormal)[1]
    return figures


def _nan_mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else 0.0
