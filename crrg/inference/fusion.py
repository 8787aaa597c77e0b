"""The fused classifier: what the film shows, what the draft says and what its regions look like, in one probability.

Numpy only, no tensors. A small logistic model per label, fitted on drafts of validation films and drawn towards the
film's own logit, so that with few films it falls back to the label head. Knows neither how drafts are made nor how
labels are read from them (``crrg.evaluation.labeler``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import FINDINGS, LABELS, NEGATIVE, NO_FINDING, NUM_LABELS, POSITIVE, UNCERTAIN, LabelValues
from crrg.errors import ModelError
from crrg.inference.calibration import FloatArray, fit_thresholds, sigmoid

SIGNALS = ("film", "affirmed", "denied", "region", "abnormal")
"""Film's logit; draft affirms it (one half: uncertain); draft denies it; strongest region; strongest abnormality."""
PRIOR_WEIGHTS = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
PRIOR_STRENGTH = np.array([8.0, 8.0, 8.0, 8.0, 8.0])
"""How strongly each weight is drawn to its prior, in units of the log-likelihood."""
BIAS_STRENGTH = 0.05
LONGEST_LOGIT = 12.0
NUM_NEWTON_STEPS = 60
_ABNORMAL = [LABELS.index(label) for label in FINDINGS if label != "Support Devices"]
_NO_FINDING = LABELS.index(NO_FINDING)


@dataclass(frozen=True)
class FusedClassifier:
    """Weights of the five signals per label, with the thresholds of the fused probabilities.

    Attributes:
        weights: ``[14, 5]`` in the order of ``SIGNALS``.
        biases: ``[14]``.
        thresholds: ``[14]`` in 0..1; a label is given at or above its threshold.
    """

    weights: FloatArray
    biases: FloatArray
    thresholds: FloatArray

    def probabilities(self, signals: FloatArray) -> FloatArray:
        """Return calibrated probabilities ``[N, 14]`` of signals ``[N, 14, 5]`` (``fusion_signals``)."""
        return sigmoid(np.einsum("nlk,lk->nl", signals, self.weights) + self.biases)

    def as_config(self) -> dict[str, Any]:
        """Return the model by label name, as it stands in a ``config.json``."""
        return {
            label: {
                "weights": dict(zip(SIGNALS, self.weights[i].tolist(), strict=True)),
                "bias": float(self.biases[i]),
                "threshold": float(self.thresholds[i]),
            }
            for i, label in enumerate(LABELS)
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FusedClassifier:
        """Read what ``as_config`` wrote.

        Raises:
            ModelError: A label or a signal is missing.
        """
        try:
            rows = [config[label] for label in LABELS]
            return cls(
                weights=np.array([[row["weights"][name] for name in SIGNALS] for row in rows], dtype=np.float64),
                biases=np.array([row["bias"] for row in rows], dtype=np.float64),
                thresholds=np.array([row["threshold"] for row in rows], dtype=np.float64),
            )
        except KeyError as error:
            raise ModelError(f"the fused classifier lacks {error}; fit it again", "fusion") from error


def fusion_signals(
    label_logits: NDArray[np.floating[Any]],
    draft_labels: Sequence[LabelValues],
    finding_probabilities: NDArray[np.floating[Any]],
    abnormal_probabilities: NDArray[np.floating[Any]],
) -> FloatArray:
    """Gather what film, draft and regions say of each label.

    For "No Finding" the region signals are turned round: it is absent where any region shows anything.

    Args:
        label_logits: ``[N, 14]`` of the film.
        draft_labels: Per film, what its draft says (1, 0, -1, ``None``).
        finding_probabilities: ``[N, 29, 14]`` in 0..1, of the regions.
        abnormal_probabilities: ``[N, 29]`` in 0..1.

    Returns:
        ``[N, 14, 5]`` in the order of ``SIGNALS``.
    """
    signals = np.zeros((len(label_logits), NUM_LABELS, len(SIGNALS)))
    if not len(label_logits):
        return signals
    share = {POSITIVE: 1.0, UNCERTAIN: 0.5, NEGATIVE: 0.0, None: 0.0}
    regions = _logits(finding_probabilities).max(axis=1)
    regions[:, _NO_FINDING] = -regions[:, _ABNORMAL].max(axis=1)
    abnormal = _logits(abnormal_probabilities).max(axis=1, keepdims=True).repeat(NUM_LABELS, axis=1)
    abnormal[:, _NO_FINDING] *= -1
    signals[:, :, 0] = np.clip(label_logits, -LONGEST_LOGIT, LONGEST_LOGIT)
    signals[:, :, 1] = [[share[values.get(label)] for label in LABELS] for values in draft_labels]
    signals[:, :, 2] = [[float(values.get(label) == NEGATIVE) for label in LABELS] for values in draft_labels]
    signals[:, :, 3] = regions
    signals[:, :, 4] = abnormal
    return signals


def fit_fused(signals: FloatArray, labels: NDArray[np.floating[Any]]) -> FusedClassifier:
    """Fit the model on validation films.

    Args:
        signals: ``[N, 14, 5]``.
        labels: ``[N, 14]``: 1, 0, NaN where unknown and left out.
    """
    weights = np.tile(PRIOR_WEIGHTS, (NUM_LABELS, 1))
    biases = np.zeros(NUM_LABELS)
    columns = []
    for i in range(NUM_LABELS):
        is_known = ~np.isnan(labels[:, i])
        rows, truth = signals[is_known, i], labels[is_known, i].astype(np.float64)
        weights[i], biases[i] = _fit_label(rows, truth)
        columns.append((sigmoid(rows @ weights[i] + biases[i]), truth))
    return FusedClassifier(weights=weights, biases=biases, thresholds=fit_thresholds(columns))


def _fit_label(signals: FloatArray, labels: FloatArray) -> tuple[FloatArray, float]:
    """Return weights ``[5]`` and bias by Newton's method under the prior; the prior itself for no film."""
    design = np.concatenate([signals, np.ones((len(signals), 1))], axis=1)
    prior = np.append(PRIOR_WEIGHTS, 0.0)
    strength = np.append(PRIOR_STRENGTH, BIAS_STRENGTH)
    found = prior.copy()
    for _ in range(NUM_NEWTON_STEPS):
        chance = sigmoid(design @ found)
        gradient = design.T @ (chance - labels) + strength * (found - prior)
        hessian = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(strength)
        step = np.clip(np.linalg.solve(hessian, gradient), -1.0, 1.0)
        found = found - step
        if np.abs(step).max() < 1e-9:
            break
    return found[:-1], float(found[-1])


def _logits(probabilities: NDArray[np.floating[Any]]) -> FloatArray:
    chances = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-4, 1 - 1e-4)
    return np.asarray(np.log(chances / (1 - chances)))
