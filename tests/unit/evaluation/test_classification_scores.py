from __future__ import annotations

import numpy as np
import pytest

from crrg.domain.labels import LABELS
from crrg.evaluation.classification import (
    average_precision,
    expected_calibration_error,
    known_values,
    label_matrix,
    majority_accuracy,
    mean_auc,
    retrieval_recall,
    roc_auc,
    roc_points,
    score_probabilities,
    sensitivity_at_specificity,
)


def test_label_matrix_masks_what_is_unmentioned_or_uncertain() -> None:
    matrix = label_matrix([{"Edema": -1, "Pneumonia": 1, "Fracture": 0}])
    row = dict(zip(LABELS, matrix[0], strict=True))
    assert (row["Pneumonia"], row["Fracture"]) == (1.0, 0.0)
    assert np.isnan([row["Edema"], row["Atelectasis"]]).all()
    assert np.isnan(label_matrix([{"Edema": -1}])).all()
    stored = np.array([[1, 0, -1, -2]], dtype=np.int8)
    np.testing.assert_array_equal(known_values(stored), [[1, 0, np.nan, np.nan]])
    assert label_matrix([]).shape == (0, 14)


def test_auc_by_hand() -> None:
    # pairs (positive, negative): (0.9, 0.1) (0.9, 0.6) (0.6, 0.1) right, (0.6, 0.6) half: 3.5 / 4
    scores = np.array([0.1, 0.6, 0.6, 0.9, 0.5])
    wanted = np.array([0, 0, 1, 1, np.nan])
    assert roc_auc(scores, wanted) == pytest.approx(3.5 / 4)
    assert np.isnan(roc_auc(scores, np.ones(5)))


def test_average_precision_by_hand() -> None:
    # places of the positives 1 and 3: (1/1 + 2/3) / 2
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    assert average_precision(scores, np.array([1.0, 0, 1, 0])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.ones(4), np.array([1.0, 0, 0, 0])) == pytest.approx(0.25)


def test_the_roc_curve_takes_tied_films_together() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
    references = np.array([1.0, 1, 1, 0, 0, np.nan])
    # neither order of the tied films makes a corner of its own
    for order in ([0, 1, 2, 3, 4, 5], [0, 3, 4, 1, 2, 5]):
        alarms, hits = roc_points(scores[order], references[order])
        assert (alarms.tolist(), hits.tolist()) == ([0, 0, 1], [0, pytest.approx(1 / 3), 1])
        assert np.trapezoid(hits, alarms) == pytest.approx(roc_auc(scores, references))
    assert roc_points(scores, np.ones(6))[0].tolist() == []


def test_auc_and_average_precision_agree_with_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    scores, wanted = rng.integers(0, 20, 300) / 20, (rng.random(300) < 0.3).astype(float)
    assert roc_auc(scores, wanted) == pytest.approx(roc_auc_score(wanted, scores))
    assert average_precision(scores, wanted) == pytest.approx(average_precision_score(wanted, scores))


def test_calibration_error_by_hand() -> None:
    # bin 0.9: mean 0.95, frequency 1/2, 2 of 4; bin 0.0: mean 0, frequency 0
    assert expected_calibration_error(np.array([0.95, 0.95, 0, 0]), np.array([1.0, 0, 0, 0])) == pytest.approx(0.225)
    assert expected_calibration_error(np.array([0.5]), np.array([np.nan])) == 0.0
    assert expected_calibration_error(np.array([1.0]), np.array([1.0])) == 0.0


def test_scores_per_label_and_their_means() -> None:
    references = np.full((4, 14), np.nan)
    probabilities = np.full((4, 14), 0.5)
    references[:, 4] = [1, 1, 0, 0]
    probabilities[:, 4] = [0.9, 0.4, 0.6, 0.1]
    references[:, 6] = [0, 0, 0, 0]
    figures = score_probabilities(probabilities, references)
    assert figures["classification/edema_auc"] == pytest.approx(0.75)
    assert figures["classification/edema_f1"] == pytest.approx(0.5)
    assert figures["classification/edema_accuracy"] == pytest.approx(0.5)
    assert "classification/pneumonia_auc" not in figures
    assert figures["classification/pneumonia_accuracy"] == 0.0
    assert "classification/fracture_f1" not in figures
    assert figures["classification/mean_auc"] == pytest.approx(0.75)
    assert figures["classification/mean_accuracy"] == pytest.approx(0.25)
    thresholds = np.full(14, 0.5)
    thresholds[4] = 0.4
    assert score_probabilities(probabilities, references, thresholds)["classification/edema_f1"] == pytest.approx(0.8)
    assert mean_auc(probabilities, references) == pytest.approx(0.75)


def test_majority_accuracy() -> None:
    train = np.array([[1.0, 0.0], [1.0, np.nan], [0.0, 0.0]])
    assert majority_accuracy(train, np.array([[1.0, 1.0], [0.0, 0.0]])) == pytest.approx(0.5)


def test_sensitivity_at_specificity() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.8, 0.25, 0.9, np.nan])
    truth = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, np.nan])
    assert sensitivity_at_specificity(scores, truth, 0.75) == 0.5
    assert sensitivity_at_specificity(scores, truth, 0.5) == 1.0


def test_retrieval_takes_equal_texts_as_one() -> None:
    similarities = np.array([[0.1, 0.9, 0.1], [0.2, 0.8, 0.2], [0.7, 0.1, 0.7]])
    found = retrieval_recall(similarities, ["a", "b", "a"], (1, 2))
    assert found["retrieval/recall_at_1"] == 2 / 3
    assert found["retrieval/recall_at_2"] == 1.0
    assert found["retrieval/num_texts"] == 2.0


def test_a_collapsed_tower_retrieves_nothing() -> None:
    found = retrieval_recall(np.ones((3, 3)), ["a", "b", "c"], (1, 2, 3))
    assert found["retrieval/recall_at_1"] == found["retrieval/recall_at_2"] == 0.0
    assert found["retrieval/recall_at_3"] == 1.0
