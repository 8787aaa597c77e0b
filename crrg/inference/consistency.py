"""Does a draft say what the labels of its film say?

Two modules read the same film; where they contradict each other a person should look first. Deterministic, values
only: labels of the text come from ``crrg.evaluation.labeler``, probabilities from ``crrg.inference.calibration``.

A contradiction is raised only outside a margin around a label's threshold ``t``: the text claims a finding although its
probability is below ``CLAIM_SHARE * t``, or the text is silent or denies it although its probability is above
``t + MISS_SHARE * (1 - t)``. Uncertain statements contradict nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crrg.domain.labels import FINDINGS, LABELS, NO_FINDING, POSITIVE, UNCERTAIN

CLAIM_SHARE = 0.5
MISS_SHARE = 0.5
SIMILARITY_WEIGHT = 0.5
"""Share of the image-text agreement in the score; the rest is the agreement of the labels."""


@dataclass(frozen=True)
class SimilarityCurve:
    """Cosine of film and text -> probability that they belong together, fitted on validation pairs.

    Attributes:
        slope: Of the cosine.
        bias: Added to it.
    """

    slope: float
    bias: float

    def agreement(self, cosine: float) -> float:
        """Return 0..1 for a cosine in -1..1; 0.5 means as likely a stranger's text as this film's."""
        return float(1 / (1 + np.exp(-(self.slope * cosine + self.bias))))


def consistency(
    probabilities: Mapping[str, float],
    draft_labels: Mapping[str, int | None],
    agreement: float,
    thresholds: Mapping[str, float],
) -> tuple[float, tuple[str, ...]]:
    """Compare a draft with the labels of its film.

    Args:
        probabilities: Calibrated probability per label name, all 14.
        draft_labels: What the draft says, from the text labeler: 1, 0, -1 or ``None`` for unmentioned.
        agreement: Image-text agreement in 0..1 (``SimilarityCurve.agreement``).
        thresholds: Threshold per label name, 0..1.

    Returns:
        A score in 0..1 (1 = film, text and labels agree) and the flags in label order:
        ``text_without_label:<name>`` where the text claims what the film does not show, ``label_without_text:<name>``
        where the film shows what the text does not say. "No Finding" raises only the first kind: its opposite is
        raised by the finding itself.
    """
    flags: list[str] = []
    for label in LABELS:
        probability, threshold, said = probabilities[label], thresholds[label], draft_labels.get(label)
        if said == POSITIVE and probability < CLAIM_SHARE * threshold:
            flags.append(f"text_without_label:{label}")
        elif (
            label != NO_FINDING
            and said not in (POSITIVE, UNCERTAIN)
            and probability > threshold + MISS_SHARE * (1 - threshold)
        ):
            flags.append(f"label_without_text:{label}")
    score = SIMILARITY_WEIGHT * agreement + (1 - SIMILARITY_WEIGHT) * _label_agreement(probabilities, draft_labels)
    return score, tuple(flags)


def _label_agreement(probabilities: Mapping[str, float], draft_labels: Mapping[str, int | None]) -> float:
    """Return the mean probability, in the geometric sense, of what the text says about the 13 findings."""
    chances = []
    for label in FINDINGS:
        said = draft_labels.get(label)
        if said == UNCERTAIN:
            continue
        probability = min(max(probabilities[label], 1e-3), 1 - 1e-3)
        chances.append(probability if said == POSITIVE else 1 - probability)
    return float(np.exp(np.mean(np.log(chances)))) if chances else 0.5
