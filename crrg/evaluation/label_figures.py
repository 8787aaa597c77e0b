"""The six figures of a classifier of the 14 labels, with intervals over patients, beside the constant one.

Means over labels: AUC over the 13 findings, everything else over all 14. Knows no models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import FINDINGS, NUM_LABELS
from crrg.evaluation.bootstrap import bootstrap_figures, error_interval
from crrg.evaluation.classification import (
    average_precision,
    expected_calibration_error,
    mean_auc,
    sensitivity_at_specificity,
)
from crrg.evaluation.scorecard import Figure

FloatArray = NDArray[np.float64]
MAJORITY = "majority"
NUM_SAMPLES = 200
NUM_FINDINGS = len(FINDINGS)


def mean_label_figures(
    probabilities: FloatArray, decisions: NDArray[np.bool_], references: FloatArray
) -> dict[str, float]:
    """Return ``auc``, ``auprc``, ``f1``, ``accuracy``, ``sensitivity`` (at specificity 0.9) and ``ece``.

    Args:
        probabilities: ``[B, 14]`` in 0..1.
        decisions: ``[B, 14]``: which labels are given.
        references: ``[B, 14]``: 1, 0, NaN where unknown.

    Returns:
        Means over labels; a label without the values that a figure needs is left out of it, NaN where none has them.
    """
    columns = range(probabilities.shape[1])
    truth, known = references == 1, ~np.isnan(references)
    hits = (decisions & truth & known).sum(axis=0)
    size = (decisions & known).sum(axis=0) + (truth & known).sum(axis=0)
    num_known = known.sum(axis=0)
    right = ((decisions == truth) & known).sum(axis=0)
    scores = [(probabilities[:, i], references[:, i]) for i in columns]
    per_label = {
        "auprc": [average_precision(*pair) for pair in scores],
        "f1": np.where(size > 0, 2 * hits / np.maximum(size, 1), np.nan),
        "accuracy": np.where(num_known > 0, right / np.maximum(num_known, 1), np.nan),
        "sensitivity": [sensitivity_at_specificity(*pair) for pair in scores],
        "ece": [expected_calibration_error(*pair) if num_known[i] else np.nan for i, pair in enumerate(scores)],
    }
    means = {name: _mean(np.asarray(values, dtype=float)) for name, values in per_label.items()}
    return {"auc": mean_auc(probabilities[:, :NUM_FINDINGS], references[:, :NUM_FINDINGS]), **means}


def majority(train_references: FloatArray, num_films: int) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return what knows no film: each label's frequency in training, and the value that is commoner there.

    Args:
        train_references: ``[N, 14]``: 1, 0, NaN where unknown.
        num_films: How many films to judge.
    """
    known = ~np.isnan(train_references)
    positive = np.where(known, train_references, 0.0).sum(axis=0)
    frequency = np.divide(positive, known.sum(axis=0), out=np.zeros(NUM_LABELS), where=known.any(axis=0))
    return np.tile(frequency, (num_films, 1)), np.tile(frequency >= 0.5, (num_films, 1))


def classifier_figures(
    prefix: str,
    probabilities: FloatArray,
    decisions: NDArray[np.bool_],
    references: FloatArray,
    patient_ids: Sequence[str],
    train_references: FloatArray,
) -> list[Figure]:
    """Return a classifier's figures with 95 % intervals, each beside the majority's on the same films.

    Where no training film is known there is no majority, and figures stand alone. The interval of the ECE is that of
    ``bootstrap.error_interval``.

    Args:
        prefix: Put before each name, e.g. ``classification/head_``.
        probabilities: ``[B, 14]``.
        decisions: ``[B, 14]``.
        references: ``[B, 14]``: 1, 0, NaN.
        patient_ids: Patient of each film.
        train_references: Labels of training films, for the majority.
    """

    def of_rows(rows: NDArray[np.int64]) -> dict[str, float]:
        return mean_label_figures(probabilities[rows], decisions[rows], references[rows])

    values = of_rows(np.arange(len(probabilities)))
    rivals: dict[str, float] = {}
    if len(train_references):
        rivals = mean_label_figures(*majority(train_references, len(probabilities)), references)
    rival = MAJORITY if rivals else ""
    intervals = bootstrap_figures(of_rows, patient_ids, known=np.isfinite(references), num_samples=NUM_SAMPLES)
    intervals["ece"] = error_interval(values["ece"], intervals["ece"])
    return [
        Figure(f"{prefix}mean_{name}", value, *intervals[name], rival, rivals.get(name), lower_is_better=name == "ece")
        for name, value in values.items()
        if np.isfinite(value)
    ]


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
