from __future__ import annotations

import numpy as np
import pytest

from crrg.domain.labels import LABEL_INDEX, LABELS, NO_FINDING
from crrg.errors import ModelError
from crrg.inference.fusion import SIGNALS, FusedClassifier, fit_fused, fusion_signals

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
    model = fit_fused(np.zeros((0, 14, 5)), np.zeros((0, 14)))
    signals = np.zeros((1, 14, 5))
    signals[0, :, 0] = np.log(3)
    assert model.probabilities(signals) == pytest.approx(np.full((1, 14), 0.75))


def test_a_draft_that_knows_more_than_the_film_is_heard_and_unknown_labels_are_masked() -> None:
    truth = np.tile([1.0, 0.0], 200)
    signals = np.zeros((400, 14, 5))
    signals[:, :, 1] = truth[:, None]
    labels = np.full((400, 14), np.nan)
    labels[:, EDEMA] = truth
    model = fit_fused(signals, labels)
    chances = model.probabilities(signals[:2])
    assert chances[0, EDEMA] > 0.8 > 0.2 > chances[1, EDEMA]
    assert chances[:, NORMAL] == pytest.approx([0.5, 0.5])


def test_config_round_trip_and_what_is_missing() -> None:
    model = fit_fused(np.zeros((0, 14, 5)), np.zeros((0, 14)))
    config = model.as_config()
    again = FusedClassifier.from_config(config)
    assert np.array_equal(again.weights, model.weights)
    assert np.array_equal(again.thresholds, model.thresholds)
    del config[LABELS[0]]
    with pytest.raises(ModelError):
        FusedClassifier.from_config(config)
