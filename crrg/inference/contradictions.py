"""Contradictions planted into drafts on purpose, to measure whether the consistency score finds them.

Knows words only; what is planted is plain wrong of the film as the draft describes it. Used by measurements and tests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from crrg.domain.labels import FINDINGS
from crrg.domain.sentences import split_sentences
from crrg.inference.prompts import prompt_pair
from crrg.inference.statements import SUPPORT_DEVICES, Labeler, read_statement

Planting = Literal["label", "sentence", "side"]
PLANTINGS: tuple[Planting, ...] = ("label", "sentence", "side")
_SIDE = re.compile(r"\b(right|left)\b", re.IGNORECASE)


def plant(text: str, kind: Planting, others: Sequence[str], labeler: Labeler, rng: np.random.Generator) -> str | None:
    """Return a draft with one contradiction planted.

    ``label``: a sentence that states a finding becomes its denial, or a denial becomes the finding. ``sentence``: a
    sentence is replaced by another draft's that states a finding this one does not have. ``side``: right and left are
    exchanged in a sentence that states a finding on one side only.

    Args:
        text: The draft.
        kind: What to plant.
        others: Sentences of other drafts.
        labeler: Reads labels of a text.
        rng: Chooses.

    Returns:
        The draft, or ``None`` where it offers no place for this kind.
    """
    sentences = split_sentences(text)
    if not sentences:
        return None
    order = rng.permutation(len(sentences)).tolist()
    makers = {"label": _swap_label, "sentence": _replace_sentence, "side": _swap_side}
    for place in order:
        changed = makers[kind](sentences, place, others, labeler, rng)
        if changed is not None:
            return " ".join([*sentences[:place], changed, *sentences[place + 1 :]])
    return None


def _swap_label(
    sentences: list[str], place: int, _others: Sequence[str], labeler: Labeler, rng: np.random.Generator
) -> str | None:
    read = read_statement(sentences[place], labeler)
    if read.certain:
        label = sorted(read.certain)[int(rng.integers(len(read.certain)))]
        elsewhere = [s for i, s in enumerate(sentences) if i != place]
        if any(label in read_statement(other, labeler).present for other in elsewhere):
            return None
        return str(rng.choice(prompt_pair(label).negative))
    denied = sorted({label for label, _ in read.denied if label != SUPPORT_DEVICES})
    return str(rng.choice(prompt_pair(str(rng.choice(denied))).positive)) if denied else None


def _replace_sentence(
    sentences: list[str], _place: int, others: Sequence[str], labeler: Labeler, rng: np.random.Generator
) -> str | None:
    stated = frozenset().union(*(read_statement(sentence, labeler).present for sentence in sentences))
    for number in rng.permutation(len(others))[:60].tolist():
        certain = read_statement(others[number], labeler).certain
        if certain and not certain & stated:
            return others[number]
    return None


def _swap_side(
    sentences: list[str], place: int, _others: Sequence[str], labeler: Labeler, _rng: np.random.Generator
) -> str | None:
    read = read_statement(sentences[place], labeler)
    if not read.certain or len({side.lower() for side in _SIDE.findall(sentences[place])}) != 1:
        return None
    (side,) = read.sides
    opposite = "left" if side == "right" else "right"
    elsewhere = [read_statement(s, labeler) for i, s in enumerate(sentences) if i != place]
    if any((label, opposite) in other.stated for other in elsewhere for label in read.certain & set(FINDINGS)):
        return None
    return _SIDE.sub(lambda match: opposite.capitalize() if match[0][0].isupper() else opposite, sentences[place])
