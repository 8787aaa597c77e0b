"""How classifiers beside the one given out are judged: calibrated and decided on films that they did not see."""

from __future__ import annotations

import numpy as np

from crrg.domain.labels import LABELS
from crrg.evaluation.classification import expected_calibration_error, mean_auc
from crrg.evaluation.label_figures import mean_label_figures
from crrg.operations.scoring.labels import calibrated, judge_by_probe, probe_probabilities

RNG = np.random.default_rng(0)
TRUTH = (RNG.random((400, len(LABELS))) < 0.15).astype(float)
KNOWN, ASKED = slice(0, 200), slice(200, 400)
PATIENTS = [f"p{number // 2}" for number in range(200)]


def test_zero_shot_that_never_comes_near_one_half_is_decided_and_calibrated_all_the_same() -> None:
    # in order, but squeezed between 0.30 and 0.45, as an uncalibrated softmax may be
    chances = 0.30 + 0.05 * RNG.random(TRUTH.shape) + 0.1 * TRUTH
    judged = calibrated(chances[KNOWN], TRUTH[KNOWN], chances[ASKED])
    asked = TRUTH[ASKED]
    before = mean_label_figures(chances[ASKED], chances[ASKED] >= 0.5, asked)
    after = mean_label_figures(judged.probabilities, judged.decisions, asked)
    assert before["f1"] == 0
    assert after["f1"] > 0.9
    assert (
        expected_calibration_error(judged.probabilities, asked) < expected_calibration_error(chances[ASKED], asked) / 2
    )
    assert mean_auc(judged.probabilities, asked) == mean_auc(chances[ASKED], asked), "a curve keeps the order of films"


def test_a_probe_of_rare_labels_gives_some_of_them() -> None:
    features = RNG.normal(size=(400, 32)) + 0.3 * TRUTH @ RNG.normal(size=(len(LABELS), 32))
    judged = judge_by_probe(features[KNOWN], TRUTH[KNOWN], PATIENTS, features[ASKED])
    decided = mean_label_figures(judged.probabilities, judged.decisions, TRUTH[ASKED])
    raw = probe_probabilities(features[KNOWN], TRUTH[KNOWN], features[ASKED])
    at_one_half = mean_label_figures(raw, raw >= 0.5, TRUTH[ASKED])
    assert at_one_half["f1"] < 0.1
    assert decided["f1"] > at_one_half["f1"] + 0.2
    assert decided["auc"] == at_one_half["auc"]


def test_a_label_that_is_known_of_no_film_stays_open() -> None:
    unknown = np.full((200, len(LABELS)), np.nan)
    judged = judge_by_probe(RNG.normal(size=(200, 4)), unknown, PATIENTS, RNG.normal(size=(3, 4)))
    np.testing.assert_allclose(judged.probabilities, 0.5)
