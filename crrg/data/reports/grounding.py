"""Which of the 29 regions a sentence speaks of, and what a whole report says of each.

A report tied to regions by words alone lets any archive of films and reports train the region models, where RGRG needs
the scene graphs of Chest ImaGenome. Rules: a side belongs to the next place, is shared by coordinated places and ends
at a negation or at "but"; a place without a side means both sides; a finding without a place lies where such findings
are looked for. Knows no boxes (``atlas``), no pictures and no labels: what judges a phrase is handed in.

Source: regions of Chest ImaGenome (Wu et al., 2021); scopes end as in NegEx (Chapman et al., 2001).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from crrg.data.reports.grounding_lexicon import (
    BONES,
    BOTH_LUNGS,
    LUNG_STEMS,
    MID_RIBS,
    ORDINALS,
    REWRITES,
    SIDES,
    TERMS,
    UPPER_RIBS,
    Kind,
    Term,
)
from crrg.data.reports.grounding_tone import is_phrase_abnormal
from crrg.domain.labels import LabelValues
from crrg.domain.regions import REGIONS
from crrg.domain.report import Report
from crrg.domain.sentences import split_sentences

Labeler = Callable[[str], LabelValues]
"""Labels of a text by label name; ``None`` or absent = unmentioned."""


@dataclass(frozen=True)
class GroundedPhrase:
    """What a report says of one region.

    Attributes:
        phrase: The sentences that speak of the region, in order, joined by a space.
        is_abnormal: Whether they describe an abnormality; ``None`` where neither labels nor words tell.
    """

    phrase: str
    is_abnormal: bool | None


@dataclass(frozen=True)
class SentenceContext:
    """What the sentences before leave to the next one.

    Attributes:
        regions: What the sentence before spoke of; empty where it named no region.
    """

    regions: tuple[str, ...] = ()

    @property
    def sides(self) -> tuple[str, ...]:
        """The one side that was spoken of; empty where it was both or none."""
        found = {side for side in SIDES for region in self.regions if region.startswith(side)}
        return tuple(found) if len(found) == 1 else ()


def ground_sentence(sentence: str, context: SentenceContext | None = None) -> tuple[str, ...]:
    """Return the regions that a sentence speaks of, in region order.

    Args:
        sentence: One sentence of a report; case does not matter.
        context: What was spoken of before: a sentence that begins with "It" or "This" and names no region goes on about
            the same ones, and takes its side from there where it names a region without one.

    Returns:
        Names out of ``REGIONS``; empty where the sentence speaks of no region, or of the chest as a whole.
    """
    before = context or SentenceContext()
    is_continued = bool(_CONTINUES.match(sentence)) and not _ADVICE.search(sentence)
    regions = _read(_rewrite(sentence), before.sides if is_continued else ())
    return before.regions if not regions and is_continued else regions


def ground_report(report: Report, label: Labeler) -> dict[str, GroundedPhrase]:
    """Tie a report to regions.

    The findings are read; the impression only where there are no findings, since it repeats them.

    Args:
        report: The report.
        label: Labels a text; decides whether a phrase is abnormal.

    Returns:
        Region to what is said of it, in region order; empty where no region is named.
    """
    sentences: dict[str, list[str]] = {}
    context = SentenceContext()
    for sentence in split_sentences(report.findings or report.impression or ""):
        regions = ground_sentence(sentence, context)
        for region in regions:
            sentences.setdefault(region, []).append(sentence)
        context = SentenceContext(regions)
    phrases = {region: " ".join(dict.fromkeys(sentences[region])) for region in REGIONS if region in sentences}
    return {region: GroundedPhrase(text, is_phrase_abnormal(text, label)) for region, text in phrases.items()}


_CONTINUES = re.compile(r"\s*(?:it|its|this|these|they|there is associated|the same)\b", re.IGNORECASE)
_ADVICE = re.compile(
    r"\b(?:recommend\w*|follow(?:ed)?[- ]?up|could be|would be|should be|consider|correlat\w+)\b", re.IGNORECASE
)
_SPACES = re.compile(r"\s+")
_REWRITES = tuple((re.compile(pattern), replacement) for pattern, replacement in REWRITES)
_SCAN = re.compile(
    r"(?P<stop>[;:])|(?P<comma>[,/])|(?<![a-z0-9])(?:"
    + "|".join(f"(?P<t{number}>{term.pattern})" for number, term in enumerate(TERMS))
    + r")(?![a-z0-9])"
)
_PUNCTUATION = {"stop": Term(Kind.BREAK, (), ";"), "comma": Term(Kind.JOINT, (), ",")}
_PREPOSITION = re.compile(r"\b(?:in|at|of|over|is|are|was|were|to|by|from|has|have|into|along|near|above|below)\b")
_SIDE_JOINT = re.compile(r"^[\s,]*(?:and|or|,)?\s*(?:\w+\s)?$")
_LEVEL_JOINT = re.compile(r"^[\s,]*(?:and|or|to|through|,|/|-)*\s*(?:the )?$")
_SIDE_ENDS = re.compile(
    r"^\s*(?:$|[.,;:)]|side\b|with\b|and\b|or\b|which\b|is\b|are\b|may\b|has\b|in\b|at\b|from\b|as\b|since\b|than\b"
    r"|greater\b|more\b|secondary\b|due\b|without\b|likely\b|unchanged\b|predominantly\b|chest\b|marks\b)"
)
_EXPANDED = re.compile(r"\b(?:clear\w*|aerated|expanded|inflated)\b")
_HOLDERS = (Kind.PLACE, Kind.FIXED, Kind.RIB, Kind.FINDING, Kind.NOWHERE)
_DIFFUSE = re.compile(r"\b(?:diffuse\w*|scattered|widespread|bilaterally|multifocal|throughout)\b")


@dataclass(frozen=True)
class _Mention:
    kind: Kind
    names: tuple[str, ...]
    start: int
    end: int
    text: str
    sides: tuple[str, ...] = ()
    is_attached: bool = False
    scope: int = 0
    chunk: int = 0

    @property
    def is_sided(self) -> bool:
        return self.kind in (Kind.PLACE, Kind.RIB, Kind.FINDING, Kind.DEVICE)

    @property
    def stem(self) -> str:
        return self.names[0] if self.names else ""


def _rewrite(sentence: str) -> str:
    text = _SPACES.sub(" ", sentence.lower())
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text


def _scan(text: str) -> list[_Mention]:
    mentions = []
    for match in _SCAN.finditer(text):
        group = match.lastgroup or ""
        term = _PUNCTUATION.get(group) or TERMS[int(group[1:])]
        mentions.append(_Mention(term.kind, term.names, match.start(), match.end(), match.group()))
    return mentions


@lru_cache(maxsize=65536)
def _read(text: str, context_sides: tuple[str, ...]) -> tuple[str, ...]:
    mentions = _SideReader(text, context_sides).read()
    regions: set[str] = set()
    for mention in mentions:
        regions.update(_regions_of(mention, mentions, text))
    return tuple(region for region in REGIONS if region in regions)


@dataclass
class _SideReader:
    """Walks the mentions of a sentence from left to right and gives each its sides, scope and chunk."""

    text: str
    context_sides: tuple[str, ...]
    carried: tuple[str, ...] = ()
    pending: _Mention | None = None
    last: _Mention | None = None
    scope: int = 0
    chunk: int = 0
    done: list[_Mention] = field(default_factory=list)

    def read(self) -> list[_Mention]:
        """Return places, findings and devices; sides and joints are used up."""
        mentions = _scan(self.text)
        for place, mention in enumerate(mentions):
            if mention.kind is Kind.SIDE:
                self._side(mention)
            elif mention.kind in (Kind.NEGATION, Kind.BREAK):
                self._new_scope(mention)
            elif mention.kind is Kind.JOINT:
                self.chunk += 1
            else:
                self._thing(mention, mentions[place + 1 :])
        return self.done

    def _side(self, mention: _Mention) -> None:
        pending = self.pending
        if pending is not None and _SIDE_JOINT.match(self.text[pending.end : mention.start]):
            names = tuple(side for side in SIDES if side in pending.names + mention.names)
            mention = replace(mention, names=names)
        self.pending = mention
        self.carried = mention.names

    def _new_scope(self, mention: _Mention) -> None:
        self.scope += 1
        self.chunk += 1
        lungs = [done for done in self.done if done.stem == "lung" and done.kind is Kind.PLACE]
        speaks_of_lung = mention.kind is Kind.NEGATION and lungs and _EXPANDED.search(self.text[: mention.start])
        self.carried = lungs[-1].sides if speaks_of_lung else ()
        self.pending = None

    def _thing(self, mention: _Mention, following: Sequence[_Mention]) -> None:
        sides: tuple[str, ...] = ()
        pending = self.pending
        if mention.is_sided:
            if pending is not None and not _PREPOSITION.search(self.text[pending.end : mention.start]):
                sides = pending.names
            sides = sides or self._side_behind(mention, following)
        is_attached = bool(sides)
        if not sides and mention.is_sided:
            sides = self._shared_sides(mention)
        if mention.kind is Kind.FIXED:
            own = {region.split(" ")[0] for region in mention.names} & set(SIDES)
            self.carried = tuple(own) if len(own) == 1 else self.carried
        elif mention.kind is Kind.DEVICE:
            self.carried = sides if mention.stem == "chest tube" and is_attached else ()
        self.pending = None
        done = replace(mention, sides=sides, is_attached=is_attached, scope=self.scope, chunk=self.chunk)
        self.last = done
        self.done.append(done)

    def _side_behind(self, mention: _Mention, following: Sequence[_Mention]) -> tuple[str, ...]:
        """Return the side of "effusion on the left" or "bases, right greater than left"."""
        for later in following:
            if later.kind is Kind.SIDE:
                is_end = _SIDE_ENDS.match(self.text[later.end :]) or later.text == "bilaterally"
                return later.names if is_end else ()
            is_passed = later.text == "," or (mention.kind is Kind.PLACE and later.kind is Kind.FINDING)
            if not is_passed:
                return ()
        return ()

    def _shared_sides(self, mention: _Mention) -> tuple[str, ...]:
        """Return the sides of a place that names none: those of its neighbour, of the sentence before, or both."""
        last = self.last
        is_neighbour = last is not None and last.kind is Kind.PLACE and last.scope == self.scope and last.is_attached
        if last is not None and is_neighbour and _LEVEL_JOINT.match(self.text[last.end : mention.start]):
            return last.sides
        is_plural = mention.kind is Kind.PLACE and re.search(r"(?:s|apices|sulci|hila)$", mention.text)
        if is_plural and mention.text not in ("basis", "apicals"):
            return SIDES
        if mention.stem in ("whole", "vessels", "nodes"):
            return SIDES
        return self.carried or self.context_sides or SIDES


def _sided(stem: str, sides: Sequence[str]) -> set[str]:
    return {f"{side} {stem}" for side in sides}


def _regions_of(mention: _Mention, mentions: Sequence[_Mention], text: str) -> set[str]:
    if mention.kind is Kind.FIXED:
        return set(mention.names)
    if mention.kind is Kind.RIB:
        return _rib_regions(mention)
    if mention.kind is Kind.PLACE:
        return _place_regions(mention, mentions)
    if mention.kind is Kind.DEVICE:
        return _device_regions(mention, mentions)
    if mention.kind is Kind.FINDING:
        return _finding_regions(mention, mentions, text)
    return set()


def _place_regions(mention: _Mention, mentions: Sequence[_Mention]) -> set[str]:
    if mention.text == "lung" and not mention.is_attached:
        governed = any(other.kind in (Kind.PLACE, Kind.RIB) and other is not mention for other in mentions)
        return set() if governed else set(BOTH_LUNGS)
    if mention.stem == "lower lung zone":
        same = [other for other in mentions if other.chunk == mention.chunk and other.kind is Kind.FINDING]
        if same and all(other.stem == "pleura" for other in same):
            return _sided("costophrenic angle", mention.sides)
    return _sided(mention.stem, mention.sides)


def _rib_regions(mention: _Mention) -> set[str]:
    numbers = [int(digits) for digits in re.findall(r"\d+", mention.text)]
    numbers += [ORDINALS.index(word) + 1 for word in re.findall(r"[a-z]+", mention.text) if word in ORDINALS]
    if re.search(r"through|to|-", mention.text) and numbers:
        numbers = list(range(min(numbers), max(numbers) + 1))
    stems = {"upper" if n <= UPPER_RIBS else "mid" if n <= MID_RIBS else "lower" for n in numbers}
    return {region for stem in stems for region in _sided(f"{stem} lung zone", mention.sides)} or _sided(
        "lung", mention.sides
    )


def _device_regions(mention: _Mention, mentions: Sequence[_Mention]) -> set[str]:
    """Return the region a device ends in; one that is named elsewhere in the sentence is counted there."""
    named = {region for other in mentions if other.kind is Kind.FIXED for region in other.names}
    places = {other.stem for other in mentions if other.kind is Kind.PLACE and other.scope == mention.scope}
    sides = mention.sides if mention.is_attached else ()
    if mention.stem == "airway tube":
        return {"trachea"}
    if mention.stem == "enteric tube":
        return set() if named else {"abdomen"}
    if mention.stem == "central line":
        return set() if named & {"svc", "cavoatrial junction", "right atrium", "cardiac silhouette"} else {"svc"}
    if mention.stem == "pacemaker":
        leads = set() if named & {"right atrium", "cardiac silhouette"} else {"right atrium"}
        return leads | _sided("upper lung zone", sides)
    return set() if places & LUNG_STEMS else _sided("lung", sides or SIDES)


def _finding_regions(mention: _Mention, mentions: Sequence[_Mention], text: str) -> set[str]:
    """Return where a finding lies that names no place; empty where a place of the sentence holds it."""
    others = [other for other in mentions if other is not mention]
    in_scope = [other for other in others if other.scope == mention.scope]
    in_chunk = [other for other in others if other.chunk == mention.chunk]
    stems = {other.stem for other in in_scope if other.kind is Kind.PLACE}
    near = {other.stem for other in in_chunk if other.kind is Kind.PLACE and other.text != "lung"}
    if mention.stem == "air and fluid":
        return _sided("apical zone", mention.sides) | _sided("costophrenic angle", mention.sides)
    if mention.stem == "air":
        is_placed = "apical zone" in stems or near & (LUNG_STEMS | {"costophrenic angle"})
        return set() if is_placed else _sided("apical zone", mention.sides)
    if mention.stem == "pleura":
        is_placed = "costophrenic angle" in stems or near & {"lower lung zone", "apical zone"}
        return set() if is_placed else _sided("costophrenic angle", mention.sides)
    if mention.stem == "plaque":
        return set() if near else _sided("mid lung zone", mention.sides)
    if mention.stem in ("break of bone", "wear of bone"):
        return _bone_regions(mention, in_scope)
    if mention.stem == "vessels":
        return set() if near & LUNG_STEMS else _sided("hilar structures", SIDES)
    if mention.text.startswith("calcif") and any(other.kind in _HOLDERS for other in in_scope):
        return set()
    is_fixed = any(other.kind is Kind.FIXED for other in in_chunk)
    if mention.stem == "nodes":
        return set() if stems or any(o.kind is Kind.FIXED for o in in_scope) else _sided("hilar structures", SIDES)
    if mention.stem == "whole":
        return set() if near & LUNG_STEMS else _sided("lung", mention.sides)
    is_held = stems & (LUNG_STEMS | {"costophrenic angle"}) and not (_DIFFUSE.search(text) and not near)
    is_held = is_held or is_fixed or any(other.kind in (Kind.RIB, Kind.NOWHERE) for other in in_chunk)
    return set() if is_held else _sided("lung", mention.sides)


def _bone_regions(mention: _Mention, in_scope: Sequence[_Mention]) -> set[str]:
    for other in in_scope:
        is_bone = other.kind is Kind.FIXED and set(other.names) & set(BONES)
        if is_bone or other.kind in (Kind.RIB, Kind.NOWHERE) or other.stem == "clavicle":
            return set()
    return set(BONES) if mention.stem == "break of bone" else {"spine"}
