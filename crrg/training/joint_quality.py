"""The gate in front of the joint stage: are drafts worth learning from? Values only."""

from __future__ import annotations

from collections.abc import Mapping

from crrg.errors import TrainingError

MIN_DIFFERENT_SHARE = 0.02
"""Share of drafts that must differ from each other; below it the generator has collapsed to a few reports."""
FEWEST_JUDGED = 200
"""Of fewer drafts nothing is said about collapse."""


def check_quality(drafts: Mapping[str, str]) -> None:
    """Check that drafts are worth learning from: most films have one, and they have not collapsed to a few reports.

    Raises:
        TrainingError: Fewer than half of them say anything, or too few differ.
    """
    texts = [text for text in drafts.values() if text.strip()]
    if len(drafts) >= FEWEST_JUDGED and len(texts) < len(drafts) / 2:
        raise TrainingError(
            f"only {len(texts)} of {len(drafts)} drafts say anything; train the generator longer", "joint"
        )
    if len(set(texts)) < MIN_DIFFERENT_SHARE * len(texts) and len(texts) >= FEWEST_JUDGED:
        raise TrainingError(
            f"only {len(set(texts))} of {len(texts)} drafts differ; the generator has collapsed, train it longer",
            "joint",
        )
