"""The fused classifier: what the film shows, what the draft says and what its regions look like, in one probability.

Numpy only, no tensors. A small logistic model per label over five signals, a calibration curve behind it, and the
threshold of the operating point. ``fusion_fitting`` fits it on drafts of validation films. Knows neither how drafts are
made nor how labels are read from them (``crrg.evaluation.labeler``).

"No Finding" is no finding of its own but the absence of the others (support devices are none): it is never likelier
than the absence of the likeliest abnormality, and never given beside one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import FINDINGS, LABELS, NEGATIVE, NO_FINDING, NUM_LABELS, POSITIVE, UNCERTAIN, LabelValues
from crrg.errors import ModelError
from crrg.inference.calibration import FloatArray, IsotonicCurve, log_odds, sigmoid

SIGNALS = ("film", "affirmed", "denied", "region", "abnormal")
"""Film's logit; draft affirms it (one half: uncertain); draft denies it; strongest region; strongest abnormality."""
LONGEST_LOGIT = 12.0
LEAST_PROBABILITY = 1e-4
"""A region's probability below it, or as near to 1, counts as this."""
ABNORMAL = [LABELS.index(label) for label in FINDINGS if label != "Support Devices"]
"""Places of the 12 labels whose absence is "No Finding"."""
BELOW = 0.999
"""Factor of the threshold that "No Finding" is held at where an abnormality is given."""
_NO_FINDING = LABELS.index(NO_FINDING)


@dataclass(frozen=True)
class FusedClassifier:
    """Weights of the five signals per label, the curve that calibrates them, and thresholds.

    Attributes:
        weights: ``[14, 5]`` in the order of ``SIGNALS``.
        biases: ``[14]``.
        temperatures: ``[14]``, by which logits are divided; unused where a label has a curve.
        curves: Label to the rising curve over its logit, for labels that are calibrated by one.
        thresholds: ``[14]`` in 0..1; a label is given at or above its threshold.
    """

    weights: FloatArray
    biases: FloatArray
    temperatures: FloatArray
    curves: Mapping[str, IsotonicCurve]
    thresholds: FloatArray

    def logits(self, signals: FloatArray) -> FloatArray:
        """Return logits ``[N, 14]`` before calibration, of signals ``[N, 14, 5]`` (``fusion_signals``)."""
        return np.asarray((signals * self.weights).sum(axis=-1) + self.biases)

    def probabilities(self, signals: FloatArray) -> FloatArray:
        """Return calibrated probabilities ``[N, 14]`` that do not contradict each other about "No Finding"."""
        logits = self.logits(signals)
        chances = sigmoid(logits / self.temperatures)
        for label, curve in self.curves.items():
            column = LABELS.index(label)
            chances[:, column] = curve.probabilities(logits[:, column])
        return hold_no_finding(chances, self.thresholds)

    def labels(self, probabilities: FloatArray) -> NDArray[np.int8]:
        """Return 1 at or above the threshold and 0 below it, ``[N, 14]``."""
        return (probabilities >= self.thresholds).astype(np.int8)

    def as_config(self) -> dict[str, Any]:
        """Return the model by label name, as it stands in ``bundle.json``."""
        return {
            label: {
                "weights": dict(zip(SIGNALS, self.weights[i].tolist(), strict=True)),
                "bias": float(self.biases[i]),
                "calibration": self._curve_config(i, label),
                "threshold": float(self.thresholds[i]),
            }
            for i, label in enumerate(LABELS)
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> FusedClassifier:
        """Read what ``as_config`` wrote.

        Raises:
            ModelError: A label, a signal or a curve is missing.
        """
        try:
            rows = [config[label] for label in LABELS]
            curves = {
                label: IsotonicCurve(np.array(row["calibration"]["scores"]), np.array(row["calibration"]["values"]))
                for label, row in zip(LABELS, rows, strict=True)
                if row["calibration"]["kind"] == "isotonic"
            }
            return cls(
                weights=np.array([[row["weights"][name] for name in SIGNALS] for row in rows], dtype=np.float64),
                biases=np.array([row["bias"] for row in rows], dtype=np.float64),
                temperatures=np.array([row["calibration"].get("temperature", 1.0) for row in rows], dtype=np.float64),
                curves=curves,
                thresholds=np.array([row["threshold"] for row in rows], dtype=np.float64),
            )
        except KeyError as error:
            raise ModelError(f"the fused classifier lacks {error}; assemble the bundle again", "fusion") from error

    def _curve_config(self, row: int, label: str) -> dict[str, Any]:
        curve = self.curves.get(label)
        if curve is None:
            return {"kind": "temperature", "temperature": float(self.temperatures[row])}
        return {"kind": "isotonic", "scores": curve.scores.tolist(), "values": curve.values.tolist()}


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
    regions = log_odds(finding_probabilities, LEAST_PROBABILITY).max(axis=1)
    regions[:, _NO_FINDING] = -regions[:, ABNORMAL].max(axis=1)
    abnormal = log_odds(abnormal_probabilities, LEAST_PROBABILITY).max(axis=1, keepdims=True).repeat(NUM_LABELS, axis=1)
    abnormal[:, _NO_FINDING] *= -1
    signals[:, :, 0] = np.clip(label_logits, -LONGEST_LOGIT, LONGEST_LOGIT)
    signals[:, :, 1] = [[share[values.get(label)] for label in LABELS] for values in draft_labels]
    signals[:, :, 2] = [[float(values.get(label) == NEGATIVE) for label in LABELS] for values in draft_labels]
    signals[:, :, 3] = regions
    signals[:, :, 4] = abnormal
    return signals


def hold_no_finding(probabilities: FloatArray, thresholds: FloatArray | None = None) -> FloatArray:
    """Return probabilities ``[N, 14]`` in which "No Finding" says what the other labels leave of it.

    Args:
        probabilities: Each label by itself.
        thresholds: ``[14]``; with them "No Finding" also stays below its threshold where an abnormality is given.
    """
    held = probabilities.copy()
    if not len(held):
        return held
    likeliest = held[:, ABNORMAL].max(axis=1)
    held[:, _NO_FINDING] = np.minimum(held[:, _NO_FINDING], 1 - likeliest)
    if thresholds is not None:
        is_given = (held[:, ABNORMAL] >= thresholds[ABNORMAL]).any(axis=1)
        limit = np.where(is_given, BELOW * thresholds[_NO_FINDING], 1.0)
        held[:, _NO_FINDING] = np.minimum(held[:, _NO_FINDING], limit)
    return held
