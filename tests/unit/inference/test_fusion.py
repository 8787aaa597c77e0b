from __future__ import annotations

import numpy as np
import pytest

from crrg.config.models import FusionSettings
from crrg.domain.labels import LABEL_INDEX, LABELS, NO_FINDING
from crrg.errors import ModelError
from crrg.inference.calibration import IsotonicCurve, sigmoid
from crrg.inference.fusion import SIGNALS, FusedClassifier, fusion_signals, hold_no_finding
from crrg.inference.fusion_fitting import fit_fused

EDEMA, NORMAL = LABEL_INDEX["Edema"], LABEL_INDEX[NO_FINDING]


def test_signals_of_one_film() -> None:
    logits = np.zeros((1, 14))
    logits[0, EDEMA] = 2.0
    regions = np.full((1, 29, 14), 0.5)
    regions[0, 3, EDEMA] = 0.9
    signals = fusion_signals(logits, [{"Edema": 1, "Fracture": 0, "Pneumonia": -1}], regions, np.full((1, 29), 0.5))
    assert signals[0, EDEMA] == pytest.approx([2.0, 1.0, 0.0, np.log(9), 0.0])
    assert signals[0, LABEL_INDEX["Fracture"]] == pytest.approx([0.0, 0.0, 1.0, 0.0, 0.0])
    assert signals[0, LABEL_INDEX["Pneumonia"], 1] == 0.5
    assert signals[0, NORMAL, 3] == pytest.approx(-np.log(9))


def test_no_film_has_no_signals() -> None:
    assert fusion_signals(np.zeros((0, 14)), [], np.zeros((0, 29, 14)), np.zeros((0, 29))).shape == (
        0,
        14,
        len(SIGNALS),
    )


def test_without_films_the_film_decides_alone() -> None:
    model = fit_fused(np.zeros((0, 14, 5)), np.zeros((0, 14))).classifier
    signals = np.zeros((1, 14, 5))
    signals[0, :, 0] = np.log(3)
    chances = model.probabilities(signals)
    assert chances[:, :NORMAL] == pytest.approx(np.full((1, 13), 0.75))
    # a film with a finding at 0.75 is normal with 0.25 at most
    assert chances[0, NORMAL] <= 0.25


def test_a_draft_that_knows_more_than_the_film_is_heard_and_unknown_labels_are_masked() -> None:
    truth = np.tile([1.0, 0.0], 200)
    signals = np.zeros((400, 14, 5))
    signals[:, :, 1] = truth[:, None]
    labels = np.full((400, 14), np.nan)
    labels[:, EDEMA] = truth
    model = fit_fused(signals, labels).classifier
    chances = model.probabilities(signals[:2])
    assert chances[0, EDEMA] > 0.8 > 0.2 > chances[1, EDEMA]
    assert chances[:, LABEL_INDEX["Fracture"]] == pytest.approx([0.5, 0.5])


def test_config_round_trip_and_what_is_missing() -> None:
    model = fit_fused(np.zeros((0, 14, 5)), np.zeros((0, 14))).classifier
    config = model.as_config()
    again = FusedClassifier.from_config(config)
    assert np.array_equal(again.weights, model.weights)
    assert np.array_equal(again.thresholds, model.thresholds)
    del config[LABELS[0]]
    with pytest.raises(ModelError):
        FusedClassifier.from_config(config)


def drawn(num_films: int = 1500, slope: float = 1.0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Films whose first signal is a logit that is ``slope`` times too sure."""
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 1.5, (num_films, 14))
    labels = (rng.random((num_films, 14)) < sigmoid(logits)).astype(float)
    signals = np.zeros((num_films, 14, 5))
    signals[:, :, 0] = slope * logits
    return signals, labels, [f"p{row // 2}" for row in range(num_films)]


def test_weights_are_the_best_fit_where_regions_know_more_than_the_film() -> None:
    rng = np.random.default_rng(7)
    signals = np.zeros((200, 14, 5))
    signals[:, EDEMA] = rng.normal([-4, 0, 0, -3, 0], [3, 0, 0, 3, 3], (200, 5))
    signals[:, EDEMA, 1:3] = rng.integers(0, 2, (200, 2))
    # what the film says counts for little, what its regions look like for much
    truth = (signals[:, EDEMA] @ [0.3, 0.6, -0.3, -0.2, 0.9] + rng.logistic(size=200) > 0.5).astype(float)
    labels = np.full((200, 14), np.nan)
    labels[:, EDEMA] = truth
    classifier = fit_fused(signals, labels).classifier
    weights = classifier.weights[EDEMA]
    wrong = sigmoid(classifier.logits(signals)[:, EDEMA]) - truth
    # the pull of the prior, 8 to the film alone and 0.05 to no bias, is all that is left
    left = signals[:, EDEMA].T @ wrong + 8 * (weights - [1.0, 0, 0, 0, 0])
    assert left == pytest.approx(np.zeros(5), abs=1e-4)
    assert wrong.sum() + 0.05 * classifier.biases[EDEMA] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("kind", ["temperature", "isotonic", "auto"])
def test_probabilities_mean_what_they_say_under_every_calibration(kind: str) -> None:
    signals, labels, patients = drawn(slope=3.0)
    fit = fit_fused(signals, labels, patients, FusionSettings(calibration=kind))
    fresh, truth, _ = drawn(slope=3.0)
    chances = fit.classifier.probabilities(fresh)[:, EDEMA]
    for low in (0.1, 0.4, 0.7):
        here = (chances >= low) & (chances < low + 0.2)
        assert truth[here, EDEMA].mean() == pytest.approx(chances[here].mean(), abs=0.08)
    assert (len(fit.classifier.curves) == 14) == (kind == "isotonic")


def test_a_curve_is_chosen_where_no_temperature_fits() -> None:
    signals, labels, patients = drawn()
    rng = np.random.default_rng(5)
    # below and above zero the frequency is flat, which no single temperature can say
    labels[:, EDEMA] = rng.random(len(labels)) < np.where(signals[:, EDEMA, 0] > 0, 0.6, 0.4)
    curves = fit_fused(signals, labels, patients).classifier.curves
    assert "Edema" in curves
    assert len(curves) < 8


def test_the_operating_point_is_what_was_asked_for() -> None:
    signals, labels, patients = drawn()
    settings = FusionSettings(operating_point="specificity", specificity=0.8)
    classifier = fit_fused(signals, labels, patients, settings).classifier
    given = classifier.labels(classifier.probabilities(signals))
    negatives = labels[:, EDEMA] == 0
    assert (given[negatives, EDEMA] == 0).mean() == pytest.approx(0.8, abs=0.02)


def test_no_finding_never_stands_beside_an_abnormality() -> None:
    rng = np.random.default_rng(6)
    thresholds = np.full(14, 0.3)
    held = hold_no_finding(rng.random((500, 14)), thresholds)
    abnormal = [LABEL_INDEX[label] for label in LABELS if label not in (NO_FINDING, "Support Devices")]
    given = held >= thresholds
    assert not (given[:, NORMAL] & given[:, abnormal].any(axis=1)).any()
    assert (held[:, NORMAL] <= 1 - held[:, abnormal].max(axis=1) + 1e-12).all()
    # a device alone leaves a film without finding
    chances = np.full((1, 14), 0.01)
    chances[0, [LABEL_INDEX["Support Devices"], NORMAL]] = 0.99, 0.9
    assert hold_no_finding(chances, thresholds)[0, NORMAL] == 0.9
    assert hold_no_finding(np.zeros((0, 14))).shape == (0, 14)


def test_a_rising_curve_survives_the_config() -> None:
    model = fit_fused(np.zeros((0, 14, 5)), np.zeros((0, 14))).classifier
    curve = IsotonicCurve(np.array([-1.0, 1.0]), np.array([0.2, 0.6]))
    model = FusedClassifier(model.weights, model.biases, model.temperatures, {"Edema": curve}, model.thresholds)
    again = FusedClassifier.from_config(model.as_config())
    signals = np.zeros((1, 14, 5))
    assert again.probabilities(signals)[0, EDEMA] == pytest.approx(0.4)
    assert np.array_equal(again.probabilities(signals), model.probabilities(signals))
