"""Makes a report out of region phrases: findings in region order, then an impression.

Repeated sentences go (``dedup``), then second descriptions of one thing, then normal sentences that contradict a stated
finding ("The lungs are clear." beside an opacity) or that only repeat what others deny already. Sentences that state a
finding are never dropped for a normal one. Knows no models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from crrg.domain.labels import FINDINGS
from crrg.domain.sentences import split_sentences
from crrg.evaluation.labeler import label_report
from crrg.inference.dedup import Similarity, deduplicate
from crrg.inference.statements import (
    Labeler,
    SidedLabel,
    Statement,
    Topic,
    implied_denials,
    read_statement,
    sided,
)

NORMAL_IMPRESSION = "No acute cardiopulmonary abnormality."
DENIALS: dict[str, str] = {
    "Enlarged Cardiomediastinum": "The mediastinal contours are normal.",
    "Cardiomegaly": "Heart size is normal.",
    "Consolidation": "No focal consolidation.",
    "Pneumothorax": "No pneumothorax.",
    "Pleural Effusion": "No pleural effusion.",
    "Fracture": "No acute fracture.",
}
"""What is left of a normal sentence of which only a part is contradicted."""

_OPENING = re.compile(
    r"^there (?:is|are) (?:an? )?|^findings (?:of|consistent with|compatible with|in keeping with) ", re.I
)
_FILLER = re.compile(
    r" (?:is|are) (?:again )?(?:seen|noted|present|identified)\b|^again (?:seen|noted) (?:is|are) ", re.I
)


@dataclass(frozen=True)
class RegionPhrase:
    """What was drafted for one region.

    Attributes:
        region: One of ``REGIONS``.
        phrase: One or more sentences.
        is_abnormal: Whether the region was drafted as abnormal.
    """

    region: str
    phrase: str
    is_abnormal: bool


@dataclass(frozen=True)
class AssembledReport:
    """A drafted report.

    Attributes:
        findings: Sentences in region order; empty if nothing was drafted.
        impression: Findings in short, or that there is none; empty if nothing was drafted.
    """

    findings: str
    impression: str


def assemble(
    region_phrases: Sequence[RegionPhrase], labeler: Labeler = label_report, *, similarity: Similarity | None = None
) -> AssembledReport:
    """Return the report that region phrases make up.

    Args:
        region_phrases: Phrases in region order.
        labeler: Reads findings out of a sentence.
        similarity: Pairwise similarity for near repeats; shared words where not given.

    Returns:
        Findings and impression; both empty where no phrase has a sentence.
    """
    sentences = [sentence for item in region_phrases for sentence in _whole_sentences(item.phrase)]
    statements = [read_statement(sentence, labeler) for sentence in deduplicate(sentences, similarity=similarity)]
    statements = _one_per_topic(statements)
    statements = _without_contradictions(statements, labeler)
    statements = _without_repeated_denials(statements)
    if not statements:
        return AssembledReport("", "")
    return AssembledReport(" ".join(statement.text for statement in statements), _impression(statements))


def _whole_sentences(phrase: str) -> list[str]:
    """Return a phrase's sentences; a last one that was cut off goes if there are others, else it gets a full stop."""
    sentences = split_sentences(phrase)
    if sentences and sentences[-1][-1] not in ".!?":
        if len(sentences) > 1:
            return sentences[:-1]
        return [f"{sentences[0]}."]
    return sentences


def _one_per_topic(statements: list[Statement]) -> list[Statement]:
    """Keep one statement of each present finding and place: the first one without doubt, else the first."""
    chosen: dict[Topic, Statement] = {}
    for statement in statements:
        other = chosen.get(statement.topic)
        if other is None or (statement.certain and not other.certain):
            chosen[statement.topic] = statement
    kept = {id(statement) for statement in chosen.values()}
    return [statement for statement in statements if id(statement) in kept]


def _without_contradictions(statements: list[Statement], labeler: Labeler) -> list[Statement]:
    """Drop normal statements that deny what others state, keeping the part that still holds."""
    stated: frozenset[SidedLabel] = frozenset().union(*(sided(statement) for statement in statements))
    kept: list[Statement] = []
    for statement in statements:
        if not (statement.is_normal and statement.contradicts(stated)):
            kept.append(statement)
            continue
        wrong = {label for label, _ in statement.denied & implied_denials(stated)}
        denied = {label for label, _ in statement.denied}
        if len(denied) < len(FINDINGS) - 1:
            kept += [
                read_statement(DENIALS[label], labeler)
                for label in FINDINGS
                if label in denied - wrong and label in DENIALS
            ]
    return kept


def _without_repeated_denials(statements: list[Statement]) -> list[Statement]:
    """Drop normal statements whose denials others make as well: the narrowest first, later before earlier."""
    kept = list(statements)
    order = sorted(range(len(statements)), key=lambda index: (len(statements[index].denied), -index))
    for statement in [statements[index] for index in order]:
        if not statement.is_normal or not statement.denied:
            continue
        others = frozenset[SidedLabel]().union(*(other.denied for other in kept if other is not statement))
        if statement.denied <= others:
            kept = [other for other in kept if other is not statement]
    return kept


def _impression(statements: list[Statement]) -> str:
    pathological = [statement for statement in statements if statement.is_pathological]
    if not pathological:
        return NORMAL_IMPRESSION
    return " ".join(dict.fromkeys(_condensed(statement.text) for statement in pathological))


def _condensed(sentence: str) -> str:
    """Return a sentence without the words that only introduce it."""
    text = _FILLER.sub("", _OPENING.sub("", sentence)).strip()
    return text[0].upper() + text[1:] if len(text) > 1 else sentence
