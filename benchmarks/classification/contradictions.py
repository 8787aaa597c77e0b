"""Contradictions planted into drafts on purpose, to measure whether the consistency score finds them.

They are planted into the findings, and the impression is put together again from what then stands there, as a draft's
is. Knows words only; what is planted is plain wrong of the film as the draft describes it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crrg.domain.labels import FINDINGS, NEGATIVE, POSITIVE
from crrg.domain.sentences import split_sentences
from crrg.inference.assembly import impression_of
from crrg.inference.prompts import prompt_pair
from crrg.inference.statements import SUPPORT_DEVICES, Labeler, Statement, read_statement

Planting = Literal["claimed", "denied", "omitted", "sentence", "side"]
PLANTINGS: tuple[Planting, ...] = ("claimed", "denied", "omitted", "sentence", "side")
_SIDE = re.compile(r"\b(right|left)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Worded:
    """A draft's two sections.

    Attributes:
        findings: With the contradiction, where one was planted.
        impression: Of these findings.
    """

    findings: str
    impression: str

    @property
    def text(self) -> str:
        """Both sections."""
        return f"{self.findings} {self.impression}".strip()


def plant(
    findings: str, kind: Planting, others: Sequence[str], labeler: Labeler, rng: np.random.Generator
) -> Worded | None:
    """Return a draft with one contradiction planted.

    ``claimed``: a denial becomes the finding. ``denied``: a finding becomes its denial, and goes wherever else it is
    stated. ``omitted``: a finding goes wherever it is stated. ``sentence``: a sentence is replaced by another draft's
    that states a finding this one does not have. ``side``: right and left are exchanged in a sentence that states a
    finding on one side only.

    Args:
        findings: The draft's findings.
        kind: What to plant.
        others: Sentences of other drafts' findings.
        labeler: Reads labels of a text.
        rng: Chooses.

    Returns:
        The draft, or ``None`` where it offers no place for this kind.
    """
    read = [read_statement(sentence, labeler) for sentence in split_sentences(findings)]
    for place in rng.permutation(len(read)).tolist():
        changed = _changed(read, place, kind, others, labeler, rng)
        if changed:
            text = " ".join(changed)
            return Worded(text, impression_of(text, labeler))
    return None


def _changed(
    read: list[Statement],
    place: int,
    kind: Planting,
    others: Sequence[str],
    labeler: Labeler,
    rng: np.random.Generator,
) -> list[str] | None:
    """Return the sentences after planting at a place, or ``None`` where that cannot be done there."""
    if kind in ("denied", "omitted"):
        return _without_finding(read, place, labeler, rng, denied=kind == "denied")
    if kind == "claimed":
        sentence = _claimed(read, place, labeler, rng)
    elif kind == "sentence":
        sentence = _strange(read, others, labeler, rng)
    else:
        sentence = _on_other_side(read, place)
    texts = [statement.text for statement in read]
    return None if sentence is None else [*texts[:place], sentence, *texts[place + 1 :]]


def _without_finding(
    read: list[Statement], place: int, labeler: Labeler, rng: np.random.Generator, *, denied: bool
) -> list[str] | None:
    """Take a finding that a sentence states out of all of them, and deny it there if asked to."""
    certain = sorted(read[place].certain)
    if not certain:
        return None
    label = str(rng.choice(certain))
    kept = {row: statement.text for row, statement in enumerate(read) if label not in statement.present}
    if denied:
        denials = [text for text in prompt_pair(label).negative if labeler(text).get(label) == NEGATIVE]
        if not denials:
            return None
        kept[place] = str(rng.choice(denials))
    return [kept[row] for row in sorted(kept)]


def _claimed(read: list[Statement], place: int, labeler: Labeler, rng: np.random.Generator) -> str | None:
    stated = frozenset[str]().union(*(statement.present for statement in read))
    denied = sorted({label for label, _ in read[place].denied} - stated - {SUPPORT_DEVICES})
    if read[place].present or not denied:
        return None
    label = str(rng.choice(denied))
    claims = [text for text in prompt_pair(label).positive if labeler(text).get(label) == POSITIVE]
    return str(rng.choice(claims)) if claims else None


def _strange(read: list[Statement], others: Sequence[str], labeler: Labeler, rng: np.random.Generator) -> str | None:
    stated = frozenset[str]().union(*(statement.present for statement in read))
    for number in rng.permutation(len(others))[:60].tolist():
        certain = read_statement(others[number], labeler).certain
        if certain and not certain & stated:
            return others[number]
    return None


def _on_other_side(read: list[Statement], place: int) -> str | None:
    statement = read[place]
    if not statement.certain or len({side.lower() for side in _SIDE.findall(statement.text)}) != 1:
        return None
    (side,) = statement.sides
    opposite = "left" if side == "right" else "right"
    elsewhere = [other for row, other in enumerate(read) if row != place]
    if any((label, opposite) in other.stated for other in elsewhere for label in statement.certain & set(FINDINGS)):
        return None
    return _SIDE.sub(lambda match: opposite.capitalize() if match[0][0].isupper() else opposite, statement.text)
