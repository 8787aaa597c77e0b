"""Drafts that a training learns from: with everything else that a region might have been worded as, and whose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DraftsOrigin:
    """Where drafts come from, as it stands beside what was trained on them.

    Attributes:
        version: Digest over who drafted, how it searched, and every part.
        bundle_id: Who drafted.
        num_films: How many films were drafted.
    """

    version: str
    bundle_id: str
    num_films: int


@dataclass(frozen=True)
class Wording:
    """One finished hypothesis of a region's phrase.

    Attributes:
        text: Its words.
        score: What the search ranks hypotheses by: the sum of the log-probabilities over a power of the length, which
            is the length penalty; at most 0.
        logprob: Mean log-probability per token, whatever the penalty; at most 0.
    """

    text: str
    score: float
    logprob: float


@dataclass(frozen=True)
class NBestDraft:
    """A drafted film with the finished wordings of each region.

    Attributes:
        findings: The draft's.
        impression: The draft's.
        hypotheses: Region index, 0..28, to wordings, the best score first; regions without a sentence are left out.
    """

    findings: str
    impression: str
    hypotheses: Mapping[int, tuple[Wording, ...]]

    @property
    def text(self) -> str:
        """Findings and impression; empty where the draft says nothing."""
        return " ".join(filter(None, (self.findings, self.impression)))

    def texts(self) -> dict[int, tuple[str, ...]]:
        """Return the words alone of ``hypotheses``."""
        return {region: tuple(each.text for each in found) for region, found in self.hypotheses.items()}
