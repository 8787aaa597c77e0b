"""Figures of boxes, selection and abnormality, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from crrg.domain.regions import NUM_REGIONS
from crrg.evaluation.bootstrap import Resampling, mean_statistic
from crrg.evaluation.detection import mean_average_precision, overlap_areas
from crrg.evaluation.detection_figures import (
    Boxes,
    abnormality_figures,
    detection_figures,
    mean_of_regions,
    overlaps,
    selection_figures,
)

NAN = [np.nan] * 4
RIGHT, LEFT = 0, 8
SAMPLES = Resampling(["a", "b"])


def films(*rows: dict[int, list[float]]) -> np.ndarray:
    boxes = np.full((len(rows), NUM_REGIONS, 4), np.nan)
    for row, known in enumerate(rows):
        for region, box in known.items():
            boxes[row, region] = box
    return boxes


TRUTH = films({RIGHT: [0, 0, 10, 10], LEFT: [0, 0, 4, 4]}, {RIGHT: [0, 0, 10, 10]})
GIVEN = Boxes(
    np.nan_to_num(films({RIGHT: [0, 0, 10, 5], LEFT: [0, 0, 4, 2]}, {RIGHT: [5, 0, 15, 10], LEFT: [0, 0, 9, 9]})),
    np.full((2, NUM_REGIONS), 0.5),
    np.array([[region != LEFT for region in range(NUM_REGIONS)]] * 2),
)


def test_boxes_by_hand() -> None:
    figures = {each.name: each for each in detection_figures(GIVEN, TRUTH, SAMPLES, Boxes.constant(GIVEN.boxes))}
    value = {name.removeprefix("detection/"): each.value for name, each in figures.items()}
    # right: 1/2 and 1/3; left is known on the first film only, and missed there
    assert value["iou/right lung"] == pytest.approx(5 / 12)
    assert value["iou/left lung"] == 0
    assert value["mean_region_iou"] == pytest.approx(5 / 24)
    assert value["mean_region_iou"] == mean_of_regions(overlaps(GIVEN, TRUTH))
    # film by film: (1/2 + 0) / 2 and 1/3
    assert value["mean_film_iou"] == pytest.approx((1 / 4 + 1 / 3) / 2)
    assert value["recall_at_50"] == pytest.approx(1 / 3)
    assert value["detected_share"] == pytest.approx(2 / 3)
    assert value["detected_regions"] == 1
    # shared 50 + 50; areas 50 + 100 of candidates, 100 + 16 + 100 of references; RGRG adds the missed box' 8
    assert value["micro_iou"] == pytest.approx(100 / (150 + 216 - 100))
    assert value["compat_iou"] == pytest.approx(100 / (158 + 216 - 100))
    assert value["compat_iou/right lung"] == pytest.approx(100 / (150 + 200 - 100))
    assert value["compat_iou/left lung"] == 0
    # right: of two boxes of one score one is right, both are wanted: 1/2 * 1/2; left: none
    assert value["map_50"] == pytest.approx(1 / 8)
    assert "iou/carina" not in value
    # the rival finds the left lung by half: a right box, the only one wanted
    assert figures["detection/iou/left lung"].baseline == pytest.approx(1 / 2)
    assert figures["detection/map_50"].baseline == pytest.approx((1 / 4 + 1) / 2)
    assert {each.baseline_name for each in figures.values()} == {"mean box"}
    often = Boxes(
        *(np.tile(part, (6,) + (1,) * (part.ndim - 1)) for part in (GIVEN.boxes, GIVEN.scores, GIVEN.detected))
    )
    truth, samples = np.tile(TRUTH, (6, 1, 1)), Resampling(list("abcdefghijkl"))
    again = detection_figures(often, truth, samples, None)
    assert all(each.low <= each.value <= each.high for each in again)
    assert detection_figures(GIVEN, np.full(TRUTH.shape, np.nan), SAMPLES, GIVEN) == []
    # of twelve patients five are annotated
    mostly_unknown = np.where(np.arange(12)[:, None, None] < 5, truth, np.nan)
    assert all(each.low is None for each in detection_figures(often, mostly_unknown, samples, None))


def test_average_precision_by_hand() -> None:
    # by score: right, wrong, right, right; the fifth film's region was not offered, the sixth's is not annotated
    iou = np.array([[0.9], [0.2], [0.5], [0.7], [0.0], [np.nan]])
    scores = np.array([[0.9], [0.8], [0.7], [0.6], [0.99], [0.99]])
    detected = np.array([[True], [True], [True], [True], [False], [True]])
    # precision 1, then 2/3 and 3/4, of which the later holds for the earlier; 5 are wanted
    assert mean_average_precision(iou, scores, detected) == pytest.approx([(1 + 3 / 4 + 3 / 4) / 5])
    # a film that is drawn twice counts as two films, one that is not drawn as none: wrong, wrong, right, right, of 4
    # that are wanted: precision 1/3, then 2/4, which holds for both
    twice = mean_average_precision(iou, scores, detected, np.array([[0.0, 2, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1]]))
    assert twice == pytest.approx([(1 / 2 + 1 / 2) / 4, 2.5 / 5])
    assert np.isnan(mean_average_precision(iou[5:], scores[5:], detected[5:]))


def test_the_interval_of_a_figure_that_is_no_sum_is_that_of_the_same_samples() -> None:
    rng = np.random.default_rng(0)
    iou = rng.random((40, 2))
    samples = Resampling([str(row // 2) for row in range(40)])
    low, high = samples.weighted_interval(
        lambda weights: mean_average_precision(iou, np.ones((40, 2)), np.ones((40, 2), dtype=bool), weights),
        np.ones(40, dtype=bool),
    )
    # with one score for all boxes there is one step: precision and recall are both the share of right boxes
    share = (iou >= 0.5).mean(axis=0)
    assert low < float((share * share).mean()) < high
    mean = samples.weighted_interval(
        lambda weights: (weights @ iou[:, 0]) / weights.sum(axis=1), np.ones(40, dtype=bool)
    )
    assert mean == pytest.approx(samples.interval(mean_statistic(iou[:, 0])))


def test_a_box_that_was_missed_has_an_area_for_rgrg_alone() -> None:
    shared, union = overlap_areas(GIVEN.boxes, TRUTH, GIVEN.detected)
    assert (shared[0, LEFT], union[0, LEFT]) == (0, 16)
    assert overlap_areas(GIVEN.boxes, TRUTH, GIVEN.detected, counts_missed_boxes=True)[1][0, LEFT] == 24
    assert union[1, LEFT] == 0, "not annotated"


def test_selection_counts_known_regions_only_and_tells_normal_from_abnormal() -> None:
    selected = np.array([[True, True, False, True, True]])
    has_phrase = np.array([[True, True, True, False, False]])
    counted = np.array([[True, True, True, True, False]])
    abnormal = np.array([[1, 0, 1, np.nan, np.nan]])
    rivals = {"always select": np.ones(5, dtype=bool)}
    found = selection_figures(selected, has_phrase, counted, abnormal, Resampling(["a"]), rivals)
    value = {each.name.removeprefix("selection/"): each.value for each in found}
    # found 3 of the 4 that count, 2 of them rightly, 3 wanted
    assert (value["precision"], value["recall"], value["f1"]) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    # normal: the second, and the fourth, of which the report says nothing
    assert (value["normal_precision"], value["normal_recall"]) == (0.5, 1.0)
    assert (value["abnormal_precision"], value["abnormal_recall"], value["abnormal_f1"]) == pytest.approx(
        (1, 0.5, 2 / 3)
    )
    assert [each.baseline for each in found if each.name == "selection/f1"] == pytest.approx([6 / 7])
    assert selection_figures(selected, has_phrase & False, counted, abnormal, Resampling(["a"]), rivals) == []


def test_abnormality_is_scored_on_regions_that_were_found() -> None:
    called = np.array([[True, True, False, True]])
    abnormal = np.array([[1.0, 0.0, 1.0, np.nan]])
    detected = np.array([[True, True, True, True]])
    found = abnormality_figures(called, abnormal, detected, Resampling(["a"]))
    assert [each.name for each in found] == ["abnormality/f1", "abnormality/precision", "abnormality/recall"]
    assert [each.value for each in found] == [0.5, 0.5, 0.5]
    assert [each.baseline for each in found] == pytest.approx([4 / 5, 2 / 3, 1])
    missed = abnormality_figures(called, abnormal, np.array([[True, True, False, True]]), Resampling(["a"]))
    assert [each.value for each in missed] == pytest.approx([2 / 3, 0.5, 1])
    assert abnormality_figures(called, np.zeros((1, 4)), detected, Resampling(["a"])) == []
