"""Calibrated "not visible": what a detector's score means, and where the line is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from crrg.domain.regions import NUM_REGIONS, REGIONS
from crrg.errors import ModelError
from crrg.evaluation.classification import expected_calibration_error
from crrg.inference.regions import RegionReadings
from crrg.inference.visibility import KEPT_VISIBLE, Visibility, fit_visibility
from crrg.operations.scoring.visibility import visibility_figures
from crrg.training.visibility import VisibilityCases


def cases(num: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores far too low, so that 0.1 means visible more often than not; for the first region lower still."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(1.0, 2.5, (num, NUM_REGIONS))
    visible = (rng.uniform(size=odds.shape) < 1 / (1 + np.exp(-odds))).astype(float)
    shift = np.where(np.arange(NUM_REGIONS) == 0, 5.0, 3.0)
    return 1 / (1 + np.exp(-(odds - shift))), visible


def test_scores_become_probabilities() -> None:
    fitted = fit_visibility(*cases())
    scores, visible = cases(2000, seed=1)
    chances = fitted.probabilities(scores)
    for region in (0, 1, 28):
        assert expected_calibration_error(scores[:, region], visible[:, region]) > 0.25
        assert expected_calibration_error(chances[:, region], visible[:, region]) < 0.06
    # the order of films stays; the first region is told apart from the others
    assert (np.diff(chances[np.argsort(scores[:, 5]), 5]) >= 0).all()
    assert fitted.biases[0] > fitted.biases[1] + 1


def test_the_operating_point_keeps_what_is_visible() -> None:
    scores, visible = cases()
    fitted = fit_visibility(scores, visible)
    is_shown = fitted.probabilities(scores) >= fitted.threshold
    assert KEPT_VISIBLE <= is_shown[visible == 1].mean() < KEPT_VISIBLE + 0.001
    assert (~is_shown[visible == 0]).mean() > 0.1


def test_unknown_regions_teach_nothing_and_one_kind_alone_is_not_enough() -> None:
    scores, visible = cases(50)
    visible[:, 3:] = np.nan
    fitted = fit_visibility(scores, visible)
    assert fitted.is_known.tolist() == [True] * 3 + [False] * (NUM_REGIONS - 3)
    assert np.array_equal(Visibility.from_config({"visibility": fitted.as_config()}).is_known, fitted.is_known)
    assert fit_visibility(scores, np.ones_like(visible)) is None
    assert fit_visibility(scores, np.full_like(visible, np.nan)) is None
    assert fit_visibility(scores[:0], visible[:0]) is None


def test_what_was_stored_comes_back_and_a_bundle_of_before_has_none() -> None:
    fitted = fit_visibility(*cases())
    config = {"architecture": {}, "visibility": fitted.as_config()}
    read = Visibility.from_config(config)
    assert read.threshold == fitted.threshold
    assert np.array_equal(read.slopes, fitted.slopes), "the threshold was chosen under these very curves"
    assert np.array_equal(read.biases, fitted.biases)
    assert Visibility.from_config({"architecture": {}}) is None
    del config["visibility"]["regions"][REGIONS[4]]["slope"]
    with pytest.raises(ModelError, match="train the stage again"):
        Visibility.from_config(config)


def test_readings_say_what_is_visible() -> None:
    scores = np.full((1, NUM_REGIONS), 0.5, np.float32)
    scores[0, :3] = 0.0, 0.05, 0.9
    blank = np.zeros((1, NUM_REGIONS), np.float32)
    detected = scores > 0.3
    detected[0, 1] = True
    readings = RegionReadings(blank[..., None].repeat(4, -1), scores, detected, blank[..., None], blank, blank, blank)
    slopes = np.where(np.arange(NUM_REGIONS) == 4, np.nan, 2.0)
    applied = Visibility(slopes, np.zeros(NUM_REGIONS), 0.6).applied(readings)
    # the fifth is judged by the detector's own threshold, as nothing is known of it
    assert applied.detected[0, :5].tolist() == [False, False, True, False, True]
    assert applied.scores[0, 2:5].tolist() == pytest.approx([0.9**2 / (0.9**2 + 0.1**2), 0.5, 0.5])
    assert applied.scores.dtype == np.float32


def test_figures_stand_beside_the_detectors_own_score() -> None:
    fitted = fit_visibility(*cases())
    scores, visible = cases(seed=2)
    found = visibility_figures(
        fitted, VisibilityCases(scores, visible, [str(i // 2) for i in range(len(scores))]), 0.05
    )
    by_name = {figure.name: figure for figure in found}
    assert set(by_name) == {"visibility/ece", "visibility/auc", "visibility/kept_visible", "visibility/found_missing"}
    assert by_name["visibility/ece"].value < 0.05 < by_name["visibility/ece"].baseline
    assert by_name["visibility/auc"].low < by_name["visibility/auc"].value < by_name["visibility/auc"].high
    assert by_name["visibility/kept_visible"].value == pytest.approx(KEPT_VISIBLE, abs=0.01)
    assert all(figure.baseline_name == "detector's score" for figure in found)
    mostly_there = np.where(np.arange(len(scores))[:, None] < 6, visible, 1)
    found = visibility_figures(
        fitted, VisibilityCases(scores, mostly_there, [str(i // 2) for i in range(len(scores))]), 0
    )
    # regions are missing on films of three patients
    assert [figure.name for figure in found if figure.low is None] == ["visibility/found_missing"]
    assert visibility_figures(fitted, VisibilityCases(scores, np.ones_like(visible), [""] * len(scores)), 0.05) == []
