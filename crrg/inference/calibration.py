"""From label logits to probabilities that mean what they say, and from probabilities to labels.

Numpy only, no tensors. Fitted on validation films by ``crrg.training.clip_validation``, stored in the stage's
``config.json``.

Source: Platt (1999) with a prior that few positives cannot overrule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import LABELS
from crrg.errors import ModelError

FloatArray = NDArray[np.float64]

SLOPE_PRIOR = 4.0
"""How strongly the slope is drawn to 1, in units of the log-likelihood."""
BIAS_PRIOR = 0.05
"""How strongly the bias is drawn to 0."""
SHRINK_POSITIVES = 15.0
"""A label's own threshold counts as much as the common one when it rests on this many positives."""
LOWEST_SLOPE = 0.05
NUM_NEWTON_STEPS = 200
"""Most steps; few are needed but where logits are far from their probabilities."""
LEAST_STEP = 1e-9


@dataclass(frozen=True)
class Calibration:
    """Per label: slope and bias of the logit, and the threshold of the probability.

    Attributes:
        slopes: ``[14]``, positive.
        biases: ``[14]``.
        thresholds: ``[14]`` in 0..1; a label is given at or above its threshold.
    """

    slopes: FloatArray
    biases: FloatArray
    thresholds: FloatArray

    def probabilities(self, logits: NDArray[np.floating[Any]]) -> FloatArray:
        """Return calibrated probabilities ``[B, 14]`` of logits ``[B, 14]``."""
        return sigmoid(np.asarray(logits, dtype=np.float64) * self.slopes + self.biases)

    def labels(self, probabilities: FloatArray) -> NDArray[np.int8]:
        """Return 1 at or above the threshold and 0 below it, ``[B, 14]``."""
        return (probabilities >= self.thresholds).astype(np.int8)

    def as_config(self) -> dict[str, dict[str, Any]]:
        """Return ``calibration`` and ``thresholds`` by label name, as they stand in ``config.json``."""
        return {
            "calibration": {
                label: {"slope": float(self.slopes[i]), "bias": float(self.biases[i])} for i, label in enumerate(LABELS)
            },
            "thresholds": {label: float(self.thresholds[i]) for i, label in enumerate(LABELS)},
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Calibration:
        """Read what ``as_config`` wrote.

        Raises:
            ModelError: A label is missing.
        """
        try:
            curves = [config["calibration"][label] for label in LABELS]
            return cls(
                slopes=np.array([curve["slope"] for curve in curves], dtype=np.float64),
                biases=np.array([curve["bias"] for curve in curves], dtype=np.float64),
                thresholds=np.array([config["thresholds"][label] for label in LABELS], dtype=np.float64),
            )
        except KeyError as error:
            raise ModelError(f"config.json has no calibration for {error}; train the stage again", "clip") from error


def sigmoid(values: FloatArray) -> FloatArray:
    """Return the logistic function, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))


def log_odds(probabilities: NDArray[np.floating[Any]] | float, least: float = 0.0) -> FloatArray:
    """Return what ``sigmoid`` makes probabilities of, of those held between ``least`` and 1 - ``least``."""
    held = np.clip(np.asarray(probabilities, dtype=np.float64), least, 1 - least)
    return np.asarray(np.log(held / (1 - held)))


def fit_calibration(logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> Calibration:
    """Fit slope, bias and threshold of every label on validation films.

    Args:
        logits: ``[N, 14]``.
        labels: ``[N, 14]``: 1 present, 0 absent, below 0 unknown and left out.
    """
    scores = np.asarray(logits, dtype=np.float64)
    curves = [_known(scores[:, i], labels[:, i]) for i in range(len(LABELS))]
    fits = [fit_platt(column, truth) for column, truth in curves]
    slopes, biases = np.array([fit[0] for fit in fits]), np.array([fit[1] for fit in fits])
    calibrated = [
        (sigmoid(slope * column + bias), truth)
        for (column, truth), slope, bias in zip(curves, slopes, biases, strict=True)
    ]
    return Calibration(slopes=slopes, biases=biases, thresholds=fit_thresholds(calibrated))


def fit_logistic(
    design: FloatArray,
    labels: FloatArray,
    prior: FloatArray,
    strength: FloatArray,
    offset: FloatArray | float = 0.0,
) -> FloatArray:
    """Fit ``sigmoid(design @ weights + offset)`` by Newton's method under a normal prior of the weights.

    Each step is halved until the loss falls, so that the one best fit is found whatever the range of the design.

    Args:
        design: ``[N, K]``.
        labels: ``[N]`` of 0 and 1.
        prior: ``[K]``, what each weight is drawn to, and where the search begins.
        strength: ``[K]``, how strongly, in units of the log-likelihood; above 0.
        offset: Added to every logit.

    Returns:
        Weights ``[K]``; the prior for no film.
    """

    def loss_of(weights: FloatArray) -> float:
        logits = design @ weights + offset
        misfit = (np.logaddexp(0, logits) - labels * logits).sum()
        return float(misfit + (strength * (weights - prior) ** 2).sum() / 2)

    found = np.array(prior, dtype=np.float64)
    loss = loss_of(found)
    for _ in range(NUM_NEWTON_STEPS):
        chance = sigmoid(design @ found + offset)
        gradient = design.T @ (chance - labels) + strength * (found - prior)
        hessian = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(strength)
        step = np.linalg.solve(hessian, gradient)
        lower = loss_of(found - step)
        while lower > loss and np.abs(step).max() >= LEAST_STEP:
            step = step / 2
            lower = loss_of(found - step)
        if np.abs(step).max() < LEAST_STEP:
            break
        found, loss = found - step, lower
    return found


def fit_platt(logits: FloatArray, labels: FloatArray) -> tuple[float, float]:
    """Fit ``sigmoid(slope * logit + bias)`` under a weak prior (slope 1, bias 0).

    Args:
        logits: ``[N]``.
        labels: ``[N]`` of 0 and 1.

    Returns:
        Slope (at least 0.05, so that the order of films stays) and the bias that suits it; (1, 0) for no film.
    """
    design = np.stack([logits, np.ones(len(logits))], axis=1)
    strength = np.array([SLOPE_PRIOR, BIAS_PRIOR])
    slope, bias = fit_logistic(design, labels, np.array([1.0, 0.0]), strength).tolist()
    if slope >= LOWEST_SLOPE:
        return slope, bias
    (bias,) = fit_logistic(design[:, 1:], labels, np.zeros(1), strength[1:], LOWEST_SLOPE * logits).tolist()
    return LOWEST_SLOPE, bias


def fit_temperature(logits: FloatArray, labels: FloatArray, *, strength: float = 0.0) -> float:
    """Return the temperature by which logits are divided, so that probabilities fit best; at least 0.05, at most 20.

    Args:
        logits: ``[N]``.
        labels: ``[N]`` of 0 and 1.
        strength: How strongly its logarithm is drawn to 0, in units of the log-likelihood.
    """
    grid = np.geomspace(0.05, 20.0, 241)
    scaled = logits[None, :] / grid[:, None]
    losses = (np.logaddexp(0, scaled) - labels[None, :] * scaled).sum(axis=1) + strength / 2 * np.log(grid) ** 2
    return float(grid[int(np.argmin(losses))]) if len(logits) else 1.0


@dataclass(frozen=True)
class IsotonicCurve:
    """A rising curve from scores to probabilities, with straight lines between its points.

    Attributes:
        scores: ``[K]``, rising.
        values: ``[K]`` in 0..1, never falling.
    """

    scores: FloatArray
    values: FloatArray

    def probabilities(self, scores: FloatArray) -> FloatArray:
        """Return the probability of each score; flat beyond the ends."""
        return np.asarray(np.interp(scores, self.scores, self.values), dtype=np.float64)


def fit_isotonic(scores: FloatArray, labels: FloatArray) -> IsotonicCurve:
    """Fit the rising curve with the least squared error, by pooling neighbours that fall.

    Each pool is smoothed by one film that is half positive, so that no probability is 0 or 1.

    Args:
        scores: ``[N]``, any range.
        labels: ``[N]`` of 0 and 1.

    Returns:
        The curve; one half everywhere for no film.

    Source: Zadrozny and Elkan, KDD 2002.
    """
    if not len(scores):
        return IsotonicCurve(np.zeros(1), np.full(1, 0.5))
    points, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    hits = np.bincount(place, weights=labels)
    pools: list[list[float]] = []
    for point, hit, count in zip(points.tolist(), hits.tolist(), counts.tolist(), strict=True):
        pools.append([hit, float(count), point * count])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [before + added for before, added in zip(pools[-1], last, strict=True)]
    table = np.array(pools)
    values = np.maximum.accumulate((table[:, 0] + 0.5) / (table[:, 1] + 1))
    return IsotonicCurve(table[:, 2] / table[:, 1], values)


def threshold_at_specificity(probabilities: FloatArray, labels: FloatArray, specificity: float) -> float:
    """Return the lowest threshold at which at least this share of the negative films stays below it.

    Args:
        probabilities: ``[N]``.
        labels: ``[N]`` of 0 and 1.
        specificity: 0..1.

    Returns:
        A value in 0..1, of single precision as tables keep probabilities; 0.5 where no film is negative.
    """
    negatives = np.sort(probabilities[labels == 0])
    if not len(negatives):
        return 0.5
    num_below = int(np.ceil(specificity * len(negatives) - 1e-9))
    limit = negatives[num_below - 1] if num_below else 0.0
    return float(min(1.0, np.nextafter(np.float32(limit), np.float32(2)))) if num_below else 0.0


def fit_thresholds(columns: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """Choose a threshold per label for the best F1, drawn to the common threshold where positives are few.

    Args:
        columns: Per label calibrated probabilities ``[N]`` and labels ``[N]`` of 0 and 1.

    Returns:
        Thresholds ``[C]``. The mixture is made in log-odds; its weight is ``P / (P + SHRINK_POSITIVES)``.
    """
    pooled = best_f1_threshold(
        np.concatenate([chances for chances, _ in columns]), np.concatenate([truth for _, truth in columns])
    )
    thresholds = []
    for chances, truth in columns:
        num_present = float(truth.sum())
        share = num_present / (num_present + SHRINK_POSITIVES)
        own = best_f1_threshold(chances, truth)
        thresholds.append(sigmoid(np.asarray(share * log_odds(own) + (1 - share) * log_odds(pooled))))
    return np.array(thresholds, dtype=np.float64)


def best_f1_threshold(probabilities: FloatArray, labels: FloatArray) -> float:
    """Return the threshold with the best F1: half-way between the last film above it and the first below.

    Args:
        probabilities: ``[N]``.
        labels: ``[N]`` of 0 and 1.

    Returns:
        A value in 0.01..0.99; 0.5 where no film is positive.
    """
    num_present = labels.sum()
    if num_present == 0:
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    hits = np.cumsum(labels[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + num_present)
    is_last_of_tie = np.append(ranked[1:] < ranked[:-1], True)
    best = int(np.argmax(np.where(is_last_of_tie, f1, -1.0)))
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    return float(np.clip((ranked[best] + below) / 2, 0.01, 0.99))


def _known(scores: FloatArray, labels: NDArray[np.integer[Any]]) -> tuple[FloatArray, FloatArray]:
    is_known = labels >= 0
    return scores[is_known], labels[is_known].astype(np.float64)
