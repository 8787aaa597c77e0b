"""Classifiers on stored readings: zero-shot, probe, label head and fused, each fitted on validation films."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.classification.readings import SplitReadings
from crrg.domain.labels import FINDINGS
from crrg.evaluation.bootstrap import bootstrap_interval, error_interval
from crrg.evaluation.classification import majority_accuracy, mean_auc, score_probabilities
from crrg.evaluation.labeler import label_report
from crrg.inference.calibration import FloatArray, fit_calibration
from crrg.inference.fusion import FusedClassifier, fusion_signals
from crrg.inference.fusion_fitting import fit_fused

NUM_FINDINGS = len(FINDINGS)


def fused_signals(read: SplitReadings, logits: FloatArray | None = None) -> FloatArray:
    """Return the five signals of stored readings; ``logits`` are those of another tower."""
    said = [label_report(text) for text in read.drafts()]
    film = read.arrays["logits"] if logits is None else logits
    return fusion_signals(film, said, read.arrays["finding_probabilities"], read.arrays["abnormal_probabilities"])


def fused(
    validation: SplitReadings, test: SplitReadings, towers: tuple[FloatArray, FloatArray] | None = None
) -> tuple[FusedClassifier, FloatArray]:
    """Fit the fused classifier on validation and return it with the probabilities of the test films."""
    known, asked = towers or (None, None)
    labels, patients = validation.arrays["references"], validation.patients()
    model = fit_fused(fused_signals(validation, known), labels, patients).classifier
    return model, model.probabilities(fused_signals(test, asked))


def head(validation: FloatArray, labels: FloatArray, test: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return calibrated probabilities and thresholds of label logits."""
    whole = np.where(np.isnan(labels), -2, labels).astype(np.int64)
    calibration = fit_calibration(validation, whole)
    return calibration.probabilities(test), calibration.thresholds


def summary(
    probabilities: FloatArray,
    references: FloatArray,
    patients: Sequence[str],
    thresholds: NDArray[np.float64] | float = 0.5,
    train: FloatArray | None = None,
) -> dict[str, float]:
    """Return the mean figures over the 13 findings, with 95 % intervals over patients and the majority baseline."""
    figures = score_probabilities(probabilities, references, thresholds)
    chances, truth = probabilities[:, :NUM_FINDINGS], references[:, :NUM_FINDINGS]

    def auc(rows: NDArray[np.int64]) -> float:
        return mean_auc(chances[rows], truth[rows])

    def calibration(rows: NDArray[np.int64]) -> float:
        return score_probabilities(probabilities[rows], references[rows])["classification/mean_ece"]

    found = {name.removeprefix("classification/mean_"): value for name, value in figures.items() if "/mean_" in name}
    found["auc"] = auc(np.arange(len(chances)))
    found["auc_low"], found["auc_high"] = bootstrap_interval(auc, patients, num_samples=200)
    own = calibration(np.arange(len(chances)))
    found["ece_low"], found["ece_high"] = error_interval(own, bootstrap_interval(calibration, patients, num_samples=50))
    if train is not None:
        found["majority_accuracy"] = majority_accuracy(train, references)
    return found
