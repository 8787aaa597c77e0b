"""How well labels read from text agree with given ones: per label, for mention, presence, denial and doubt.

Works on label values alone; what reads the text is handed in by the caller. Unmentioned is a value of its own here: a
label that only one side mentions is a fault of "mention".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crrg.domain.labels import LABELS, NEGATIVE, POSITIVE, UNCERTAIN, LabelValues

MICRO = "micro"
"""Name of the row that adds up the counts of all labels."""

ASPECTS: dict[str, tuple[int, ...]] = {
    "mention": (POSITIVE, NEGATIVE, UNCERTAIN),
    "present": (POSITIVE,),
    "denied": (NEGATIVE,),
    "uncertain": (UNCERTAIN,),
}
"""What is asked of a label value, and which values answer yes."""


@dataclass(frozen=True)
class Agreement:
    """Counts of one label and one aspect.

    Attributes:
        truth: Number of texts where the truth says yes.
        read: Number of texts where the reading says yes.
        both: Number of texts where both do.
    """

    truth: int = 0
    read: int = 0
    both: int = 0

    @property
    def precision(self) -> float:
        """Share of the readings that are right, 0 to 1; 0 where nothing was read."""
        return self.both / max(self.read, 1)

    @property
    def recall(self) -> float:
        """Share of the truth that was read, 0 to 1; 0 where there is nothing to read."""
        return self.both / max(self.truth, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 to 1."""
        return 2 * self.both / max(self.truth + self.read, 1)

    def __add__(self, other: Agreement) -> Agreement:
        """Add up two counts."""
        return Agreement(self.truth + other.truth, self.read + other.read, self.both + other.both)


def score_labels(
    truth: Sequence[LabelValues], read: Sequence[LabelValues], labels: Sequence[str] = LABELS
) -> dict[tuple[str, str], Agreement]:
    """Compare label values of the same texts.

    Args:
        truth: Given values, one mapping per text; an absent label is unmentioned.
        read: Values to judge, in the same order.
        labels: Labels to compare.

    Returns:
        Counts by (label, aspect), then by (``MICRO``, aspect) over all those labels.

    Raises:
        ValueError: The two have different lengths.
    """
    if len(truth) != len(read):
        raise ValueError(f"{len(truth)} texts have given labels, {len(read)} were read: compare the same texts")
    scores: dict[tuple[str, str], Agreement] = {}
    for aspect, values in ASPECTS.items():
        total = Agreement()
        for label in labels:
            wanted = [given.get(label) in values for given in truth]
            found = [given.get(label) in values for given in read]
            both = sum(w and f for w, f in zip(wanted, found, strict=True))
            scores[label, aspect] = Agreement(sum(wanted), sum(found), both)
            total += scores[label, aspect]
        scores[MICRO, aspect] = total
    return scores
