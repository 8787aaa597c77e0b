"""What one drafted sentence says: which findings, present or denied, on which side and where.

Labels come from a labeler that is handed in; sides, levels, organs and kinds of devices are read from words, and so is
whether a sentence of a region that was drafted as abnormal says anything abnormal that has no label ("Free air").
Contradictions and repetitions are found by it (``assembly``), claims of a wrong side (``consistency``), and wordings
that say what a film does not have (``reranking``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from crrg.data.reports.grounding_tone import is_phrase_abnormal
from crrg.domain.labels import FINDINGS, NEGATIVE
from crrg.inference.decisive_words import GRADES, WORD, DecisiveWord, Kind, decisive_words, grade_of, severity_of

Labeler = Callable[[str], Mapping[str, int | None]]
"""Text to label values, as ``crrg.evaluation.labeler.label_report``."""
SidedLabel = tuple[str, str]
"""Label and ``right`` or ``left``."""
Topic = tuple[frozenset[str], frozenset[str], frozenset[str]]
"""What is stated, on which sides, where."""

SUPPORT_DEVICES = "Support Devices"
LUNG_LABELS = frozenset({"Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"})
MIDLINE_LABELS = frozenset({"Enlarged Cardiomediastinum", "Cardiomegaly", "Edema"})
"""Findings of which a film has one, whatever side a sentence names."""
SIDE_LABELS = frozenset({"Pneumothorax", "Pleural Effusion"})
"""Findings of which a side has one, whatever level a sentence names."""

_ANYWHERE = MIDLINE_LABELS | {"Pleural Effusion"}
"""Findings that are the same one whatever level is named; an effusion lies at the base, said or not."""
_AIRWAY = frozenset({"airway"})
"""The kind of device of which a film has one, so that two heights of its tip are no two tubes."""
_STEM_LENGTH = 6
_FILLER_WORD = re.compile(
    r"the|an?|of|in|at|on|and|with|be|is|are|was|has|have|there|appears?|again|also|seen|noted|present|identified"
    r"|changes?|disease|stable|unchanged"
)

SIDES = ("right", "left")
_BOTH_SIDES = re.compile(r"\b(?:bilateral\w*|both|bi-?(?:basilar|basal|apical)\w*)\b")
_LEVELS = (
    ("upper", r"upper|apical|apex|apices"),
    ("mid", r"mid|middle|midlung|perihilar|hilar|hilum|lingula\w*"),
    ("lower", r"lower|basal|base|bases|basilar|bibasilar|costophrenic|retrocardiac|infrahilar"),
)
_DEVICES = (
    ("airway", r"endotracheal|tracheostomy|et tube"),
    ("pacemaker", r"pacemaker|pacer|pacing|icd|aicd|defibrillator"),
    ("gastric", r"nasogastric|orogastric|enteric|feeding|ng tube|dobb?hoff"),
    ("pleural", r"chest tube|thoracostomy|pleural drain|pigtail"),
    ("venous", r"central|picc|jugular|subclavian|port|venous|catheter"),
    ("sternal", r"sternotomy|wires|clips"),
)
_ORGANS = (
    ("free air", r"free air|pneumoperitoneum"),
    ("hila", r"hila|hilar|hilum"),
    ("diaphragm", r"(?:hemi)?diaphragm"),
    ("aorta", r"aorta|aortic"),
    ("trachea", r"trachea"),
    ("abdomen", r"abdomen|bowel"),
    ("spine", r"spine|vertebra\w*"),
)
_ZONE_CLEAR = re.compile(r"\b(?:zone|apex|base)s? (?:is|are|appears?) clear")
_BONES = re.compile(r"\b(?:osseous|bony|bones?|skeletal|ribs?)\b")
_WHOLE_CHEST = re.compile(r"\b(?:no acute (?:cardio\w*|disease|process|findings?|abnormalit\w+)|normal chest)\b")
_NORMAL_WORD = re.compile(r"\b(?:no|normal|unremarkable|intact|without)\b")
_NEUTRAL = re.compile(
    r"\b(?:stable|unchanged|similar|left-sided|views?|radiographs?|examination|study|images?|comparison)\b"
)
"""Words of a sentence that calls nothing abnormal without calling anything normal."""
_FREE_AIR = re.compile(
    r"\b(?:free (?:\w+ )?air|pneumoperitoneum|pneumomediastinum|subcutaneous (?:emphysema|air|gas))\b"
)
_DENIAL = re.compile(r"\b(?:no|not|without|negative for|free of|absence of|nor|rather than|resolved)\b")
_TURN = re.compile(r";|\b(?:but|although|though|however|with)\b")
_PIECE_END = re.compile(r"[,;]|\b(?:but|although|though|however|with|without|and(?= no\b))\b")
_NOWHERE: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())


@dataclass(frozen=True)
class Statement:
    """A sentence and its meaning.

    Attributes:
        text: The sentence.
        sides: ``right``, ``left`` or both; both where none is named, and where one is only named as the worse of both.
        present: Findings it states as present or possible.
        certain: Those of them it states without doubt.
        denied: Findings it denies, by side.
        places: Levels of the lung or kinds of device it names; of a sentence that denies nothing, its organs.
        is_local: Whether what it denies, it denies of a level of the lung only.
        is_flagged: Whether it says something abnormal of a region that was drafted as abnormal (``says_abnormal``).
    """

    text: str
    sides: frozenset[str]
    present: frozenset[str]
    certain: frozenset[str]
    denied: frozenset[SidedLabel]
    places: frozenset[str]
    is_local: bool = False
    is_flagged: bool = False

    @property
    def is_normal(self) -> bool:
        """Whether it states no finding at all, and nothing else that is abnormal."""
        return not self.present and not self.is_flagged

    @property
    def is_pathological(self) -> bool:
        """Whether it states anything but devices."""
        return self.is_flagged or bool(self.present - {SUPPORT_DEVICES})

    @property
    def names_free_air(self) -> bool:
        """Whether it speaks of air outside lung and bowel, which no label stands for, and does not deny it there.

        A denial before it reaches through a list, one behind it only to what stands next to it.
        """
        lowered = self.text.lower()
        return any(
            not _DENIAL.search(_TURN.split(lowered[: air.start()])[-1])
            and not _DENIAL.search(_PIECE_END.split(lowered[air.end() :])[0])
            for air in _FREE_AIR.finditer(lowered)
        )

    @property
    def topic(self) -> Topic:
        """What it is about: two statements of one topic describe the same thing, or things that ``details`` part."""
        if not self.present:
            return (
                (frozenset(), self.sides, self.places)
                if self.places
                else (frozenset({self.text}), self.sides, frozenset())
            )
        if self.present <= MIDLINE_LABELS:
            return self.present, frozenset(), frozenset()
        return self.present, self.sides, frozenset() if self.present <= SIDE_LABELS else self.places

    @cached_property
    def details(self) -> frozenset[str]:
        """What parts it from others of its topic: degree by grade, number, bone, kind, device, where it ends.

        The grade of what a film or a side has once parts nothing: it has one grade, and the worse one is told.
        Of a sentence without labels every word that is no filler counts, since no list knows all that it may say, and
        so does that none leaves it open.
        """
        kept = {word for kind, word in self._decisive if self._parts(kind)}
        kept |= set() if self._is_only_one else self._grades
        if "Pneumothorax" in self.present:
            kept |= self.places
        if not self.present:
            kept |= {"certain"} if all(kind != "doubt" for kind, _ in self._decisive) else set()
            words = [word for word in WORD.findall(self.text.lower()) if not _FILLER_WORD.fullmatch(word)]
            kept |= {word[:_STEM_LENGTH] for word in words if not decisive_words([word])}
        return frozenset(kept)

    @property
    def grade(self) -> int:
        """Its worst grade, counted from 1 (mild); 0 where it says none."""
        return max((number for number, grade in enumerate(GRADES, 1) if grade in self._grades), default=0)

    @property
    def severity(self) -> float:
        """How severe it is, beside another of its topic and details: its worst degree; of a tube how deep it lies."""
        if self.places == _AIRWAY:
            heights = [float(word) for kind, word in self._decisive if kind == "number" and word[0].isdigit()]
            return -min(heights, default=float("inf"))
        return severity_of(self._decisive)

    @cached_property
    def _decisive(self) -> frozenset[DecisiveWord]:
        return decisive_words(WORD.findall(self.text.lower()))

    @property
    def _grades(self) -> frozenset[str]:
        return frozenset(grade_of(word) for kind, word in self._decisive if kind == "degree")

    @property
    def _is_only_one(self) -> bool:
        """Whether it states but one thing that there is no second of: of a film, or an effusion of the one side."""
        if self.present == {"Pleural Effusion"}:
            return len(self.sides) == 1
        return bool(self.present) and self.present <= MIDLINE_LABELS

    def _parts(self, kind: Kind) -> bool:
        """Whether words of a kind part statements of one topic, which says sides and coarse levels already."""
        if kind == "level":
            return SUPPORT_DEVICES in self.present or not self.present
        if kind == "end":
            return bool(self.present & {SUPPORT_DEVICES, "Lung Lesion"}) or not self.present
        if kind == "area":
            return not self.present or not self.present <= _ANYWHERE
        if kind == "number":
            return self.places != _AIRWAY
        return kind not in ("both", "doubt", "degree")

    def wrong_denials(self, others: Iterable[Statement]) -> frozenset[SidedLabel]:
        """Return which of its denials are wrong beside what others state; a lung with any finding is not clear."""
        stated = frozenset[SidedLabel]().union(
            *(other.stated for other in others if not self.is_local or other.places & self.places)
        )
        not_clear = frozenset(("Lung Opacity", side) for label, side in stated if label in LUNG_LABELS)
        return self.denied & (stated | not_clear)

    @property
    def stated(self) -> frozenset[SidedLabel]:
        """The findings it states, by side."""
        sides = frozenset(SIDES)
        return frozenset(
            (label, side) for label in self.present for side in (sides if label in MIDLINE_LABELS else self.sides)
        )


def read_statement(sentence: str, labeler: Labeler) -> Statement:
    """Return the meaning of one sentence."""
    lowered = sentence.lower()
    values = labeler(sentence)
    named = frozenset(side for side in SIDES if re.search(rf"\b{side}\b", lowered))
    sides = named if named and not _BOTH_SIDES.search(lowered) else frozenset(SIDES)
    present = frozenset(label for label in FINDINGS if values.get(label) not in (None, NEGATIVE))
    denied = {label for label in FINDINGS if values.get(label) == NEGATIVE}
    if not present and _BONES.search(lowered) and _NORMAL_WORD.search(lowered):
        denied.add("Fracture")
    if not present and _WHOLE_CHEST.search(lowered):
        denied.update(set(FINDINGS) - {SUPPORT_DEVICES})
    is_local = not present and not denied and bool(_ZONE_CLEAR.search(lowered))
    if is_local:
        denied.add("Lung Opacity")
    if SUPPORT_DEVICES in present:
        places = _named(_DEVICES, lowered) or {lowered}
    elif present or is_local:
        places = _named(_LEVELS, lowered)
    else:
        places = set() if denied else _named(_ORGANS, lowered)
    return Statement(
        text=sentence,
        sides=sides,
        present=present,
        certain=frozenset(label for label in present if values.get(label) == 1),
        denied=frozenset((label, side) for label in denied for side in sides),
        places=frozenset(places),
        is_local=is_local,
    )


def says_abnormal(sentence: str, labeler: Labeler) -> bool:
    """Return whether a sentence of a region that was drafted as abnormal says anything abnormal, labels or not.

    What neither labels nor words call normal counts, since the region is known to be abnormal; a sentence that only
    denies, calls something normal or stable, names a device or speaks of the examination does not.
    """
    is_abnormal = is_phrase_abnormal(sentence, labeler)
    return not _NEUTRAL.search(sentence.lower()) if is_abnormal is None else is_abnormal


def known_sides(statements: Iterable[Statement]) -> dict[str, frozenset[str]]:
    """Return on which sides findings are, of those that are stated of one side each time; the others are left out."""
    named: dict[str, frozenset[str]] = {}
    open_ones: set[str] = set()
    for statement in statements:
        for label in statement.present - MIDLINE_LABELS:
            named[label] = named.get(label, frozenset()) | statement.sides
            open_ones |= {label} if len(statement.sides) > 1 else set()
    return {label: sides for label, sides in named.items() if label not in open_ones}


def _named(words: tuple[tuple[str, str], ...], lowered: str) -> set[str]:
    return {name for name, pattern in words if re.search(rf"\b(?:{pattern})s?\b", lowered)}
