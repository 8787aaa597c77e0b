"""Makes a report out of region phrases: findings in the order of an archive's reports, then an impression.

Repeated sentences go (``dedup``), then second descriptions of one thing that say nothing more of it, then normal
sentences that contradict a stated finding ("The lungs are clear." beside an opacity) or that only repeat what others
deny already. Sentences that state a finding are never dropped for a normal one, only parted from what they deny
wrongly, and the impression is made of them; where there is none it calls the chest normal only if sentences do, of
lungs or pleura and of the heart, and none names free air. What a region that was drafted as abnormal says counts as
such without a label too. ``assemble_published`` is the published way: repeats go, nothing else. Knows no models.

Source: RGRG (Tanida et al., CVPR 2023), report post-processing, for ``assemble_published``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from crrg.config.base import Compat
from crrg.data.reports.grounding_tone import is_phrase_abnormal
from crrg.domain.regions import REGIONS
from crrg.domain.sentences import split_sentences
from crrg.evaluation.labeler import label_report
from crrg.inference.dedup import Similarity, deduplicate, kept_sentences
from crrg.inference.statements import (
    LUNG_LABELS,
    SIDE_LABELS,
    Labeler,
    SidedLabel,
    Statement,
    Topic,
    read_statement,
    says_abnormal,
)

ASSEMBLY_VERSION = "3"
"""Raised when the same phrases would make another draft, so that what was learnt of earlier drafts is not reused."""
MANY_DENIALS = 10
"""A sentence that denies so much at once ("No acute disease.") is dropped as a whole when any of it is wrong."""
NORMAL_IMPRESSION = "No acute cardiopulmonary abnormality."
DENIALS: dict[str, tuple[str, str]] = {
    "Enlarged Cardiomediastinum": ("The mediastinal contours are normal.", "The mediastinal contours are normal."),
    "Cardiomegaly": ("Heart size is normal.", "Heart size is normal."),
    "Lung Opacity": ("The lungs are clear.", "The {side} lung is clear."),
    "Consolidation": ("No focal consolidation.", "No {side} consolidation."),
    "Pneumothorax": ("No pneumothorax.", "No {side} pneumothorax."),
    "Pleural Effusion": ("No pleural effusion.", "No {side} pleural effusion."),
    "Fracture": ("No acute fracture.", ""),
}
"""What is left of a normal sentence of which a part is contradicted: for both sides, for one (empty: nothing)."""

_OPENING = re.compile(
    r"^there (?:is|are) (?:an? )?|^findings (?:of|consistent with|compatible with|in keeping with) ", re.I
)
_FILLER = re.compile(
    r" (?:is|are) (?:again )?(?:seen|noted|present|identified)\b|^again (?:seen|noted) (?:is|are) ", re.I
)

_SIDE_BESIDE_ITSELF = re.compile(r",? (?:on the )?\b(right|left) (?:greater|more|worse) than (?:the )?\1\b", re.I)
"""A comparison that can be true of no film ("opacities, right greater than right"); what is compared may be."""

_SEAM = re.compile(r"[,;]?\s+(?:and|but|with|without|although|though)\b\s*|[,;]\s+", re.I)
"""Where a finding and a denial in one sentence may be parted."""


@dataclass(frozen=True)
class RegionPhrase:
    """What was drafted for one region.

    Attributes:
        region: One of ``REGIONS``.
        phrase: One or more sentences.
        is_abnormal: Whether the region was drafted as abnormal, so that what it says without a label may be a finding.
    """

    region: str
    phrase: str
    is_abnormal: bool


@dataclass(frozen=True)
class AssembledReport:
    """A drafted report.

    Attributes:
        findings: Sentences, in the order of their regions; empty if nothing was drafted.
        impression: Findings in short, or that there is none; empty if nothing was drafted, and where nothing abnormal
            was without heart and lungs being called normal.
    """

    findings: str
    impression: str


def assemble(
    region_phrases: Sequence[RegionPhrase],
    labeler: Labeler = label_report,
    *,
    similarity: Similarity | None = None,
    order: Sequence[str] = REGIONS,
) -> AssembledReport:
    """Return the report that region phrases make up.

    Args:
        region_phrases: Phrases; those of one region stay in their order.
        labeler: Reads findings out of a sentence.
        similarity: Pairwise similarity for near repeats; shared words where not given.
        order: In which order the regions are told of.

    Returns:
        Findings and impression (``AssembledReport``); both empty where no phrase has a sentence.
    """
    told = sorted(region_phrases, key=lambda item: order.index(item.region))
    statements = _one_per_topic(_statements(told, labeler, similarity), labeler)
    statements = _without_contradictions(statements, labeler)
    statements = _without_repeated_denials(statements)
    return AssembledReport(" ".join(statement.text for statement in statements), _impression(statements))


def assemble_published(region_phrases: Sequence[RegionPhrase], similarity: Similarity | None = None) -> AssembledReport:
    """Return the report as the reference makes it: all phrases in one text, repeats dropped, no impression.

    No sentence is reworded, and none goes because it contradicts another.

    Args:
        region_phrases: Phrases in region order.
        similarity: Pairwise similarity for near repeats. The reference's decisions are those of ``token_similarity``
            with its encoder; shared words where not given.

    Returns:
        Findings without impression; empty where no phrase has a sentence.
    """
    sentences = split_sentences(" ".join(item.phrase for item in region_phrases))
    return AssembledReport(" ".join(deduplicate(sentences, similarity=similarity)), "")


def assemble_as(
    compat: Compat,
    region_phrases: Sequence[RegionPhrase],
    similarity: Similarity | None = None,
    order: Sequence[str] = REGIONS,
) -> AssembledReport:
    """Return the report that region phrases make up under a setting of decoding: ours, or the published way.

    Args:
        compat: As of ``DecodingSettings``.
        region_phrases: Phrases in region order.
        similarity: Pairwise similarity for near repeats; shared words where not given.
        order: In which order the regions are told of; the published way is that of ``REGIONS``.
    """
    if compat == "rgrg":
        return assemble_published(region_phrases, similarity)
    return assemble(region_phrases, similarity=similarity, order=order)


def impression_of(findings: str, labeler: Labeler = label_report) -> str:
    """Return the impression that goes with findings, whatever they contradict; empty as in ``AssembledReport``."""
    return _impression([read_statement(sentence, labeler) for sentence in split_sentences(findings)])


def _statements(told: Sequence[RegionPhrase], labeler: Labeler, similarity: Similarity | None) -> list[Statement]:
    """Return what phrases state, repeats told once; what any region says that was drafted as abnormal is marked."""
    said = [(sentence, item.is_abnormal) for item in told for sentence in whole_sentences(item.phrase)]
    kept = kept_sentences([sentence for sentence, _ in said], similarity=similarity)
    flagged = {kept[sentence] for sentence, is_abnormal in said if is_abnormal}
    return [
        replace(read_statement(sentence, labeler), is_flagged=sentence in flagged and says_abnormal(sentence, labeler))
        for sentence, stays_as in kept.items()
        if sentence == stays_as
    ]


def whole_sentences(phrase: str) -> list[str]:
    """Return a phrase's sentences; a last one that was cut off goes if there are others, else it gets a full stop.

    A side is compared with no side but the other one.
    """
    sentences = split_sentences(_SIDE_BESIDE_ITSELF.sub("", phrase))
    if sentences and sentences[-1][-1] not in ".!?":
        if len(sentences) > 1:
            return sentences[:-1]
        return [f"{sentences[0]}."]
    return sentences


def _one_per_topic(statements: list[Statement], labeler: Labeler) -> list[Statement]:
    """Keep of each finding and place what no other statement says as well; of equals the worse, then the first."""
    chosen: dict[Topic, list[Statement]] = {}
    for statement in statements:
        others = chosen.setdefault(statement.topic, [])
        if not any(_replaces(other, statement, labeler) for other in others):
            others[:] = [other for other in others if not _replaces(statement, other, labeler)] + [statement]
    kept = {id(statement) for others in chosen.values() for statement in others}
    return [statement for statement in statements if id(statement) in kept]


def _replaces(statement: Statement, other: Statement, labeler: Labeler) -> bool:
    """Return whether another statement of the same topic is not needed beside a statement."""
    if not _covers(statement, other, labeler):
        return False
    return statement.severity >= other.severity or not _covers(other, statement, labeler)


def _covers(statement: Statement, other: Statement, labeler: Labeler) -> bool:
    """Return whether a statement says all that another of its topic does, with no less certainty.

    What is normal is said by any; two findings in one place are two where each has a detail that the other lacks.
    """
    if not _is_abnormal(other, labeler):
        return True
    return (
        _is_abnormal(statement, labeler)
        and other.is_pathological <= statement.is_pathological
        and other.certain <= statement.certain
        and other.details <= statement.details
        and other.grade <= statement.grade
    )


def _is_abnormal(statement: Statement, labeler: Labeler) -> bool:
    """Return whether a statement names a finding or device, or an abnormality by words, flagged or not."""
    return not statement.is_normal or is_phrase_abnormal(statement.text, labeler) is True


def _without_contradictions(statements: list[Statement], labeler: Labeler) -> list[Statement]:
    """Drop what denies what others state, keeping of the sentence the part that still holds."""
    kept: list[Statement] = []
    is_flagged = any(statement.is_flagged for statement in statements)
    for statement in statements:
        if is_flagged and statement.is_normal and len(statement.denied) >= MANY_DENIALS:
            continue
        left = what_holds(statement, statements, labeler)
        kept += [statement] if left == [statement.text] else [_left_of(statement, text, labeler) for text in left]
    return kept


def _left_of(statement: Statement, text: str, labeler: Labeler) -> Statement:
    """Return the statement that a sentence of ``what_holds`` makes; what is abnormal in it stays marked as such."""
    return replace(read_statement(text, labeler), is_flagged=statement.is_flagged and says_abnormal(text, labeler))


def what_holds(statement: Statement, others: Sequence[Statement], labeler: Labeler) -> list[str]:
    """Return a statement's sentence or, where it denies what others state, what it says besides.

    Of a finding's sentence that is its longest part that says as much without the wrong denial, where what goes is
    normal by words, too ("tortuous aorta" has no label); one that cannot be parted stays as it is, since a finding is
    never dropped. What else was denied follows in plain sentences.
    """
    others = [other for other in others if other is not statement]
    wrong = statement.wrong_denials(others)
    if not wrong:
        return [statement.text]
    is_vague = not statement.present and (statement.is_local or len(statement.denied) >= MANY_DENIALS)
    still_denied = frozenset[SidedLabel]() if is_vague else statement.denied - wrong
    if not _is_abnormal(statement, labeler):
        return _denials(still_denied)
    for part, rest in _parts(statement.text.rstrip(".")):
        text = f"{part[0].upper()}{part[1:]}."
        left = read_statement(text, labeler)
        is_rest_normal = is_phrase_abnormal(rest, labeler) is False
        if is_rest_normal and _says_as_much(left, statement, labeler) and not left.wrong_denials(others):
            return [text, *_denials(still_denied - left.denied)]
    return [statement.text]


def _parts(whole: str) -> list[tuple[str, str]]:
    """Return in which parts a sentence may be left, the longest first, and what then goes, with the word between."""
    pairs = [
        pair
        for seam in _SEAM.finditer(whole)
        for pair in ((whole[: seam.start()], whole[seam.start() :]), (whole[seam.end() :], whole[: seam.start()]))
    ]
    return sorted((pair for pair in pairs if pair[0]), key=lambda pair: len(pair[0]), reverse=True)


def _says_as_much(part: Statement, whole: Statement, labeler: Labeler) -> bool:
    """Return whether a part of a sentence states the same as the whole, denials apart."""
    if whole.is_flagged and not says_abnormal(part.text, labeler):
        return False
    is_same_place = not whole.present or part.places == whole.places
    return is_same_place and (part.present, part.certain, part.sides) == (whole.present, whole.certain, whole.sides)


def _denials(denied: frozenset[SidedLabel]) -> list[str]:
    """Return one plain sentence per denied label."""
    sentences = []
    for label, (both, one) in DENIALS.items():
        sides = [side for other, side in sorted(denied) if other == label]
        if sides:
            sentences.append(both if len(sides) > 1 else one.format(side=sides[0]))
    return [sentence for sentence in sentences if sentence]


def _without_repeated_denials(statements: list[Statement]) -> list[Statement]:
    """Drop normal statements whose denials others make as well: the narrowest first, later before earlier."""
    kept = list(statements)
    order = sorted(range(len(statements)), key=lambda index: (len(statements[index].denied), -index))
    for statement in [statements[index] for index in order]:
        if not statement.is_normal or not statement.denied:
            continue
        others = frozenset[SidedLabel]().union(
            *(other.denied for other in kept if other is not statement and not other.is_local)
        )
        if statement.denied <= others:
            kept = [other for other in kept if other is not statement]
    return kept


def _impression(statements: list[Statement]) -> str:
    """Return the findings in short; without one the normal impression if the statements bear it out, else nothing."""
    pathological = [statement for statement in statements if statement.is_pathological]
    if not pathological:
        return NORMAL_IMPRESSION if _call_chest_normal(statements) else ""
    return " ".join(dict.fromkeys(_condensed(statement.text) for statement in pathological))


def _call_chest_normal(statements: list[Statement]) -> bool:
    """Return whether statements deny something of both lungs or pleurae and call the heart normal.

    Air outside lung and bowel makes no normal chest, even where its region was not drafted as abnormal. Other words
    without a label ("tortuous aorta") do: real reports with them are called normal as well.
    """
    if any(statement.names_free_air for statement in statements):
        return False
    denied = frozenset[SidedLabel]().union(*(each.denied for each in statements if not each.is_local))
    is_chest_normal = any({(label, "right"), (label, "left")} <= denied for label in LUNG_LABELS | SIDE_LABELS)
    return is_chest_normal and any(label == "Cardiomegaly" for label, _ in denied)


def _condensed(sentence: str) -> str:
    """Return a sentence without the words that only introduce it."""
    text = _FILLER.sub("", _OPENING.sub("", sentence)).strip()
    return text[0].upper() + text[1:] if len(text) > 1 else sentence
