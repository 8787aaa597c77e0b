"""A few drafts of drawn films as people look at them, for the page of an evaluation.

Only films that this program drew: a tracking server is no place for a patient's film or the words about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from crrg.config.evidence import EvidenceSettings
from crrg.domain.evidence import SentenceEvidence
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import DraftReport, Film, reads_abnormal
from crrg.exports.documents import region_table
from crrg.exports.pictures import evidence_sheet
from crrg.operations.scoring.cases import Case

NUM_EXAMPLES = 4
SENTENCES_PER_FILM = 3
EXAMPLES = tuple(f"example-{number}.{form}" for number in range(1, NUM_EXAMPLES + 1) for form in ("png", "md"))
"""What an evaluation keeps of each film: a picture with boxes and evidence, and the table of its regions."""


class SentenceExplainer(Protocol):
    """Maps what sentences rest on; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    @property
    def abnormal_threshold(self) -> float:
        """Probability from which a region reads abnormal."""

    def explain(
        self, films: Sequence[Film], drafts: Sequence[DraftReport], settings: EvidenceSettings
    ) -> list[list[SentenceEvidence]]:
        """Return per film the maps of its sentences."""


def example_files(explainer: SentenceExplainer, cases: Sequence[Case]) -> dict[str, bytes]:
    """Return pictures and tables of the first drawn films with a sentence that reads abnormal, by name.

    Args:
        explainer: The pipeline that drafted.
        cases: Drafts with their films.

    Returns:
        Some of ``EXAMPLES``; empty where no film was drawn.
    """
    shown = [
        (case.reference.film, case.draft)
        for case in cases
        if case.reference.film is not None
        and case.reference.source == SourceKind.PHANTOM
        and _states_abnormality(case.draft, explainer.abnormal_threshold)
    ][:NUM_EXAMPLES]
    films, drafts = [film for film, _ in shown], [draft for _, draft in shown]
    maps = explainer.explain(films, drafts, EvidenceSettings(max_sentences=SENTENCES_PER_FILM)) if shown else []
    files: dict[str, bytes] = {}
    for number, (film, draft, evidence) in enumerate(zip(films, drafts, maps, strict=True), 1):
        files[f"example-{number}.png"] = evidence_sheet(film, draft, evidence, explainer.abnormal_threshold)
        files[f"example-{number}.md"] = region_table(draft).encode()
    return files


def _states_abnormality(draft: DraftReport, threshold: float) -> bool:
    return any(region.phrase and reads_abnormal(region.abnormal_probability, threshold) for region in draft.regions)
