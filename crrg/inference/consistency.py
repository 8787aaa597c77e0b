"""Does a draft say what the labels and the regions of its film say?

Two modules read the same film; where they contradict each other a person should look first. Deterministic, values
only: labels of the text come from ``crrg.evaluation.labeler``, its sentences from ``statements``, probabilities from
``calibration`` and from the regions.

A contradiction is raised only outside a margin around a label's threshold ``t``: the text claims a finding although its
probability is below ``CLAIM_SHARE * t``, or the text is silent or denies it although its probability is above
``t + MISS_SHARE * (1 - t)``, or it names one side although the regions of the other show the finding far more clearly.
Uncertain statements contradict nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import FINDINGS, LABEL_INDEX, LABELS, NO_FINDING, POSITIVE, UNCERTAIN
from crrg.domain.regions import REGIONS
from crrg.inference.statements import MIDLINE_LABELS, Statement

CLAIM_SHARE = 0.5
MISS_SHARE = 0.5
SIMILARITY_WEIGHT = 0.1
"""Share of the image-text agreement in the score; the rest is what labels and regions say of the text."""
SIDE_WEIGHT = 0.5
"""Power of the share by which the lowest side claim lowers the score."""
OTHER_SIDE_ODDS = 20.0
"""The other side's odds over the named side's from which a side counts as wrong."""
SIDES = ("right", "left")
_SIDE_ROWS = {side: [i for i, region in enumerate(REGIONS) if region.startswith(side)] for side in SIDES}
_LEAST, _MOST = 1e-3, 1 - 1e-3


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


def side_probabilities(finding_probabilities: NDArray[np.floating[Any]]) -> dict[str, dict[str, float]]:
    """Return, per side and finding, the highest probability among the regions of that side.

    Args:
        finding_probabilities: ``[29, 14]`` in 0..1, of one film's regions.
    """
    best = {side: np.asarray(finding_probabilities)[rows].max(axis=0) for side, rows in _SIDE_ROWS.items()}
    return {side: {label: float(best[side][LABEL_INDEX[label]]) for label in FINDINGS} for side in SIDES}


def consistency(
    probabilities: Mapping[str, float],
    draft_labels: Mapping[str, int | None],
    agreement: float,
    thresholds: Mapping[str, float],
    *,
    statements: Sequence[Statement] = (),
    sides: Mapping[str, Mapping[str, float]] | None = None,
) -> tuple[float, tuple[str, ...]]:
    """Compare a draft with the labels of its film and, where given, its sentences with the sides of its regions.

    Args:
        probabilities: Calibrated probability per label name, all 14.
        draft_labels: What the draft says, from the text labeler: 1, 0, -1 or ``None`` for unmentioned.
        agreement: Image-text agreement in 0..1 (``SimilarityCurve.agreement``).
        thresholds: Threshold per label name, 0..1.
        statements: The draft's sentences (``statements.read_statement``).
        sides: Probability per side and finding (``side_probabilities``).

    Returns:
        A score in 0..1 (1 = film, text, labels and sides agree) and the flags in label order:
        ``text_without_label:<name>`` where the text claims what the film does not show, ``label_without_text:<name>``
        where the film shows what the text does not say, then ``text_on_other_side:<name>``. "No Finding" raises only
        the first kind: its opposite is raised by the finding itself.
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
    chances = _label_chances(probabilities, draft_labels)
    claims = _side_claims(statements, sides) if sides else {}
    flags += [f"text_on_other_side:{label}" for label in FINDINGS if claims.get(label, 1.0) < 1 / OTHER_SIDE_ODDS]
    mean = float(np.exp(np.mean(np.log(chances)))) if chances else 0.5
    support = (0.5 * mean + 0.5 * min(chances, default=0.5)) * min(claims.values(), default=1.0) ** SIDE_WEIGHT
    return SIMILARITY_WEIGHT * agreement + (1 - SIMILARITY_WEIGHT) * support, tuple(flags)


def region_contradictions(draft_labels: Mapping[str, int | None], shown: Collection[str]) -> tuple[str, ...]:
    """Compare a draft whose findings were decided over the whole film with what the regions alone show.

    Args:
        draft_labels: What the draft says: 1, 0, -1 or ``None`` for unmentioned.
        shown: Findings that at least one region shows by itself.

    Returns:
        Flags in label order: ``regions_without_text:<name>`` where a region shows what the draft does not say,
        ``text_without_regions:<name>`` where the draft states what no region shows.
    """
    flags = []
    for label in FINDINGS:
        said = draft_labels.get(label)
        if said == POSITIVE and label not in shown:
            flags.append(f"text_without_regions:{label}")
        elif said not in (POSITIVE, UNCERTAIN) and label in shown:
            flags.append(f"regions_without_text:{label}")
    return tuple(flags)


def _label_chances(probabilities: Mapping[str, float], draft_labels: Mapping[str, int | None]) -> list[float]:
    """Return the probability of what the text says of each of the 13 findings; silence says it is absent."""
    chances = []
    for label in FINDINGS:
        said = draft_labels.get(label)
        if said == UNCERTAIN:
            continue
        probability = min(max(probabilities[label], _LEAST), _MOST)
        chances.append(probability if said == POSITIVE else 1 - probability)
    return chances


def _side_claims(statements: Sequence[Statement], sides: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return, per finding stated of one side, that side's odds over the stronger side's; the lowest counts."""
    claims: dict[str, float] = {}
    for statement in statements:
        if len(statement.sides) != 1:
            continue
        (side,) = statement.sides
        for label in statement.certain - MIDLINE_LABELS:
            named, strongest = (
                _odds(value) for value in (sides[side][label], max(sides[name][label] for name in SIDES))
            )
            claims[label] = min(claims.get(label, 1.0), named / strongest)
    return {label: max(claim, _LEAST) for label, claim in claims.items()}


def _odds(probability: float) -> float:
    chance = min(max(probability, _LEAST), _MOST)
    return chance / (1 - chance)
