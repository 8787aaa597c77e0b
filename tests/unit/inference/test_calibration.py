"""Calibration curves, thresholds and their JSON form."""

from __future__ import annotations

import numpy as np
import pytest

from crrg.domain.labels import LABELS
from crrg.errors import ModelError
from crrg.inference.calibration import (
    Calibration,
    best_f1_threshold,
    fit_calibration,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    sigmoid,
    threshold_at_specificity,
)


def test_platt_recovers_a_known_curve() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 20_000)
    labels = (rng.random(20_000) < sigmoid(0.5 * logits - 1.0)).astype(float)
    slope, bias = fit_platt(logits, labels)
    assert slope == pytest.approx(0.5, abs=0.03)
    assert bias == pytest.approx(-1.0, abs=0.06)


def test_platt_keeps_the_order_of_films_even_for_a_useless_score() -> None:
    logits = np.linspace(-3, 3, 400)
    slope, _ = fit_platt(logits, (logits < 0).astype(float))
    assert slope > 0


@pytest.mark.parametrize(("middle", "spread"), [(-37.0, 5.0), (40.0, 2.5), (-11.5, 1.4)])
def test_platt_finds_the_best_fit_wherever_the_logits_lie(middle: float, spread: float) -> None:
    rng = np.random.default_rng(3)
    logits = middle + spread * rng.normal(size=60)
    labels = (logits + spread * rng.normal(size=60) > middle).astype(float)
    slope, bias = fit_platt(logits, labels)
    wrong = sigmoid(slope * logits + bias) - labels
    # the best fit is where the weak pull of the prior (4 to a slope of 1, 0.05 to a bias of 0) is all that is left
    assert slope > 0.05
    assert wrong @ logits + 4 * (slope - 1) == pytest.approx(0, abs=1e-4 * spread)
    assert wrong.sum() + 0.05 * bias == pytest.approx(0, abs=1e-4)


def test_platt_of_a_score_that_misleads_still_says_how_often() -> None:
    logits = np.linspace(-4, -2, 400)
    slope, bias = fit_platt(logits, (logits < -3).astype(float))
    assert slope > 0
    assert sigmoid(slope * logits + bias).mean() == pytest.approx(0.5, abs=0.01)


def test_platt_without_positives_gives_small_probabilities() -> None:
    slope, bias = fit_platt(np.zeros(200), np.zeros(200))
    assert slope == pytest.approx(1.0)
    assert sigmoid(np.array(bias)) < 0.02


def test_platt_of_no_film_is_the_identity() -> None:
    assert fit_platt(np.zeros(0), np.zeros(0)) == (1.0, 0.0)


def test_best_threshold_lies_between_the_groups() -> None:
    chances = np.array([0.9, 0.8, 0.6, 0.2, 0.1])
    # cutting after 0.6: 3 hits of 3, F1 = 1
    assert best_f1_threshold(chances, np.array([1.0, 1, 1, 0, 0])) == pytest.approx(0.4)
    # ties are never cut: the best cut keeps both 0.5s
    assert best_f1_threshold(np.array([0.5, 0.5, 0.1]), np.array([1.0, 0, 0])) == pytest.approx(0.3)
    assert best_f1_threshold(chances, np.zeros(5)) == 0.5


def test_rare_labels_take_the_common_threshold() -> None:
    rng = np.random.default_rng(1)
    logits = np.tile(rng.normal(0, 1, (400, 1)), (1, 14))
    labels = (rng.random((400, 14)) < sigmoid(logits)).astype(int)
    labels[:, 3] = 0
    labels[7, 3] = 1
    found = fit_calibration(logits, labels)
    common = np.median(np.delete(found.thresholds, 3))
    own = best_f1_threshold(sigmoid(logits[:, 3] * found.slopes[3] + found.biases[3]), labels[:, 3].astype(float))
    assert abs(found.thresholds[3] - common) < abs(own - common)


def test_unknown_labels_are_left_out() -> None:
    logits = np.tile(np.linspace(-2, 2, 50)[:, None], (1, 14))
    labels = (logits > 0).astype(int)
    worse = labels.copy()
    worse[:25, 0] = -2
    changed = np.vstack([logits, np.full((30, 14), 9.0)])
    masked = np.vstack([labels, np.full((30, 14), -1)])
    assert fit_calibration(changed, masked).slopes == pytest.approx(fit_calibration(logits, labels).slopes)
    assert fit_calibration(logits, worse).slopes[0] != fit_calibration(logits, labels).slopes[0]


def test_calibration_survives_its_json_form() -> None:
    rng = np.random.default_rng(2)
    found = Calibration(rng.uniform(0.5, 2, 14), rng.normal(0, 1, 14), rng.uniform(0.1, 0.9, 14))
    again = Calibration.from_config(found.as_config())
    logits = rng.normal(0, 1, (3, 14))
    np.testing.assert_array_equal(found.probabilities(logits), again.probabilities(logits))
    assert again.labels(np.array([found.thresholds])).tolist() == [[1] * 14]
    assert again.labels(np.array([found.thresholds - 1e-6])).tolist() == [[0] * 14]


def test_a_missing_label_is_refused() -> None:
    config = Calibration(np.ones(14), np.zeros(14), np.full(14, 0.5)).as_config()
    del config["thresholds"][LABELS[4]]
    with pytest.raises(ModelError, match=LABELS[4]):
        Calibration.from_config(config)


def test_isotonic_pools_neighbours_that_fall() -> None:
    curve = fit_isotonic(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert curve.scores.tolist() == pytest.approx([0.1, 0.25, 0.4])
    assert curve.values.tolist() == pytest.approx([0.25, 0.5, 0.75])
    assert curve.probabilities(np.array([0.0, 0.25, 9.0])).tolist() == pytest.approx([0.25, 0.5, 0.75])


def test_temperature_softens_what_is_too_sure() -> None:
    logits = np.array([4.0, 4.0, 4.0, 4.0])
    assert fit_temperature(logits, np.array([1.0, 1.0, 1.0, 0.0])) == pytest.approx(4 / np.log(3), rel=0.03)


def test_threshold_leaves_the_wanted_share_of_negatives_alone() -> None:
    chances = np.array([0.1, 0.2, 0.3, 0.4, 0.9])
    truth = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    threshold = threshold_at_specificity(chances, truth, 0.75)
    assert 0.3 < threshold < 0.4


def test_a_threshold_lies_above_what_it_leaves_out_in_single_precision_too() -> None:
    # a rising curve is flat at its ends, so that many films have the very probability below the threshold
    for level in np.random.default_rng(8).random(50):
        threshold = threshold_at_specificity(np.full(20, level), np.zeros(20), 0.9)
        assert level < threshold
        assert np.float32(level) < threshold == np.float32(threshold)
        assert threshold - level < 1e-6
