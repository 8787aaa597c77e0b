"""Fits the fused classifier on drafts of validation films: weights, calibration curve, threshold, label by label.

Everything behind the weights is fitted on out-of-fold logits: films of one patient are judged by weights that never saw
that patient, so curves and thresholds do not flatter themselves. Numpy only.

Source: Platt scaling with a prior for the weights; Guo et al. 2017 (temperature), Zadrozny and Elkan 2002 (isotonic).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.config.models import FusionSettings
from crrg.domain.labels import LABELS, NO_FINDING, NUM_LABELS
from crrg.inference.calibration import (
    FloatArray,
    IsotonicCurve,
    fit_isotonic,
    fit_logistic,
    fit_temperature,
    fit_thresholds,
    sigmoid,
    threshold_at_specificity,
)
from crrg.inference.fusion import SIGNALS, FusedClassifier, hold_no_finding

PRIOR_WEIGHTS = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
PRIOR_STRENGTH = np.array([8.0, 8.0, 8.0, 8.0, 8.0])
"""How strongly each weight is drawn to its prior, in units of the log-likelihood."""
BIAS_STRENGTH = 0.05
TEMPERATURE_STRENGTH = 4.0
"""How strongly the logarithm of a temperature is drawn to 0."""
NUM_FOLDS = 5
FEWEST_FOR_CURVE = 30
"""Films with and films without a label from which a rising curve is tried for it."""
_NO_FINDING = LABELS.index(NO_FINDING)


@dataclass(frozen=True)
class FusionFit:
    """What the fit made.

    Attributes:
        classifier: Fitted on all films.
        probabilities: ``[N, 14]`` of the same films, each by weights that did not see its patient; the curve is fitted
            on all films.
    """

    classifier: FusedClassifier
    probabilities: FloatArray


def fit_fused(
    signals: FloatArray,
    labels: NDArray[np.floating[Any]],
    patient_ids: Sequence[str] = (),
    settings: FusionSettings | None = None,
) -> FusionFit:
    """Fit weights, curves and thresholds.

    Args:
        signals: ``[N, 14, 5]``.
        labels: ``[N, 14]``: 1, 0, NaN where unknown and left out.
        patient_ids: Patient of each film; each film its own patient where not given.
        settings: Kind of calibration and operating point; the defaults where not given.
    """
    settings = settings or FusionSettings()
    folds = patient_folds(patient_ids or [str(row) for row in range(len(signals))])
    weights = np.tile(PRIOR_WEIGHTS, (NUM_LABELS, 1))
    biases, temperatures = np.zeros(NUM_LABELS), np.ones(NUM_LABELS)
    curves: dict[str, IsotonicCurve] = {}
    chances = np.zeros((len(signals), NUM_LABELS))
    for i, label in enumerate(LABELS):
        is_known = ~np.isnan(labels[:, i])
        rows, truth, fold = signals[is_known, i], labels[is_known, i].astype(np.float64), folds[is_known]
        weights[i], biases[i] = _fit_weights(rows, truth)
        scores = _out_of_fold(signals[:, i], folds, rows, truth, fold)
        curve = _fit_curve(scores[is_known], truth, fold, settings)
        if isinstance(curve, IsotonicCurve):
            curves[label] = curve
        else:
            temperatures[i] = curve
        chances[:, i] = _calibrated(scores, curve)
    chances = hold_no_finding(chances)
    thresholds = _thresholds(chances, labels, settings)
    classifier = FusedClassifier(weights, biases, temperatures, curves, thresholds)
    return FusionFit(classifier, hold_no_finding(chances, thresholds))


def patient_folds(patient_ids: Sequence[str]) -> NDArray[np.int64]:
    """Return one of ``NUM_FOLDS`` numbers per film; films of one patient share it."""
    order = {patient: number for number, patient in enumerate(sorted(set(patient_ids)))}
    return np.array([order[patient] % NUM_FOLDS for patient in patient_ids], dtype=np.int64)


def _out_of_fold(
    signals: FloatArray, folds: NDArray[np.int64], rows: FloatArray, truth: FloatArray, fold: NDArray[np.int64]
) -> FloatArray:
    """Return logits ``[N]`` of all films, each by weights fitted on the known films of the other folds."""
    scores = np.zeros(len(signals))
    for number in np.unique(folds):
        weights, bias = _fit_weights(rows[fold != number], truth[fold != number])
        here = folds == number
        scores[here] = signals[here] @ weights + bias
    return scores


def _fit_curve(
    scores: FloatArray, truth: FloatArray, fold: NDArray[np.int64], settings: FusionSettings
) -> IsotonicCurve | float:
    """Return a temperature or a rising curve: the kind that is set, or the one that does better on films left out."""
    has_both = min(truth.sum(), len(truth) - truth.sum()) >= FEWEST_FOR_CURVE
    if settings.calibration == "isotonic" or (settings.calibration == "auto" and has_both):
        curve = fit_isotonic(scores, truth)
        if settings.calibration == "isotonic" or _is_better(scores, truth, fold):
            return curve
    return fit_temperature(scores, truth, strength=TEMPERATURE_STRENGTH)


def _is_better(scores: FloatArray, truth: FloatArray, fold: NDArray[np.int64]) -> bool:
    """Return whether curves have a lower log loss than temperatures on the folds they were not fitted on."""
    losses = np.zeros(2)
    for number in np.unique(fold):
        here, rest = fold == number, fold != number
        temperature = fit_temperature(scores[rest], truth[rest], strength=TEMPERATURE_STRENGTH)
        curves: tuple[IsotonicCurve | float, ...] = (temperature, fit_isotonic(scores[rest], truth[rest]))
        for kind, curve in enumerate(curves):
            chances = np.clip(_calibrated(scores[here], curve), 1e-6, 1 - 1e-6)
            losses[kind] -= (truth[here] * np.log(chances) + (1 - truth[here]) * np.log(1 - chances)).sum()
    return bool(losses[1] < losses[0])


def _calibrated(scores: FloatArray, curve: IsotonicCurve | float) -> FloatArray:
    return curve.probabilities(scores) if isinstance(curve, IsotonicCurve) else sigmoid(scores / curve)


def _thresholds(chances: FloatArray, labels: NDArray[np.floating[Any]], settings: FusionSettings) -> FloatArray:
    columns = []
    for i in range(NUM_LABELS):
        is_known = ~np.isnan(labels[:, i])
        columns.append((chances[is_known, i], labels[is_known, i].astype(np.float64)))
    if settings.operating_point == "f1":
        return fit_thresholds(columns)
    found = [threshold_at_specificity(column, truth, settings.specificity) for column, truth in columns]
    return np.array(found, dtype=np.float64)


def _fit_weights(signals: FloatArray, labels: FloatArray) -> tuple[FloatArray, float]:
    """Return weights ``[5]`` and bias under the prior; the prior itself for no film."""
    design = np.concatenate([signals, np.ones((len(signals), 1))], axis=1)
    found = fit_logistic(design, labels, np.append(PRIOR_WEIGHTS, 0.0), np.append(PRIOR_STRENGTH, BIAS_STRENGTH))
    return found[: len(SIGNALS)], float(found[-1])
