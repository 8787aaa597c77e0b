from __future__ import annotations

import numpy as np
import pytest

from crrg.evaluation.detection import (
    mean_box,
    mean_box_candidates,
    region_iou,
    score_boxes,
    score_selection,
)

NAN = [np.nan] * 4


def test_mean_region_iou_by_hand() -> None:
    references = np.array([[[0, 0, 10, 10], [0, 0, 4, 4]], [[0, 0, 10, 10], NAN]], dtype=float)
    candidates = np.array([[[0, 0, 10, 5], [0, 0, 4, 4]], [[5, 0, 15, 10], [0, 0, 1, 1]]], dtype=float)
    iou = region_iou(candidates, references)
    assert iou[0] == pytest.approx([0.5, 1.0])
    assert iou[1, 0] == pytest.approx(50 / 150)
    assert np.isnan(iou[1, 1])
    figures = score_boxes(candidates, references)
    # region 0: (1/2 + 1/3) / 2, region 1: 1
    assert figures["detection/mean_region_iou"] == pytest.approx((5 / 12 + 1) / 2)
    assert figures["detection/iou/1"] == 1.0
    assert figures["detection/recall_at_50"] == pytest.approx(2 / 3)
    assert figures["detection/detected_share"] == 1.0
    # intersections 50 + 16 + 50, areas 50 + 16 + 100 and 100 + 16 + 100
    assert figures["detection/micro_iou"] == pytest.approx(116 / (166 + 216 - 116))


def test_a_missed_region_counts_as_zero() -> None:
    boxes = np.array([[[0, 0, 2, 2], [0, 0, 4, 4]]], dtype=float)
    figures = score_boxes(boxes, boxes, np.array([[True, False]]))
    assert figures["detection/mean_region_iou"] == 0.5
    assert figures["detection/detected_share"] == 0.5
    assert figures["detection/micro_iou"] == pytest.approx(4 / 20)
    missed = np.array([[[0, 0, 2, 2], NAN]], dtype=float)
    assert score_boxes(missed, boxes)["detection/mean_region_iou"] == 0.5


def test_nothing_annotated() -> None:
    figures = score_boxes(np.zeros((2, 29, 4)), np.full((2, 29, 4), np.nan))
    assert figures["detection/mean_region_iou"] == 0.0
    assert figures["detection/detected_share"] == 0.0


def test_region_names_are_used_for_29_regions() -> None:
    boxes = np.tile(np.array([0.0, 0.0, 3.0, 3.0]), (1, 29, 1))
    assert score_boxes(boxes, boxes)["detection/iou/cardiac silhouette"] == 1.0


def test_mean_box_is_relative_to_each_film() -> None:
    boxes = np.array([[[0, 0, 50, 100], NAN], [[100, 0, 200, 100], NAN]], dtype=float)
    sizes = np.array([[100, 200], [200, 100]], dtype=float)
    relative = mean_box(boxes, sizes)
    assert relative[0] == pytest.approx([0.25, 0.0, 0.75, 0.75])
    assert relative[1] == pytest.approx([0, 0, 1, 1])
    laid = mean_box_candidates(relative, sizes)
    assert laid[0, 0] == pytest.approx([25, 0, 75, 150])


def test_selection_by_hand() -> None:
    selected = np.array([[True, True, False, False]])
    has_phrase = np.array([[True, False, True, False]])
    figures = score_selection(selected, has_phrase, np.array([[False, False, True, False]]))
    assert figures == {
        "selection/precision": 0.5,
        "selection/recall": 0.5,
        "selection/f1": 0.5,
        "selection/abnormal_recall": 0.0,
    }
