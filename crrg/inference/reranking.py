"""Choices between wordings, by asking another stage which of them fits the film.

Tensors and texts only. Hypotheses come from ``decoding``, similarities from ``zero_shot``. Which findings are worded in
the first place is decided in ``reconciling``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crrg.domain.labels import FINDINGS, NEGATIVE, POSITIVE, LabelValues
from crrg.domain.sentences import split_sentences
from crrg.inference.consistency import SIDES
from crrg.inference.decoding import DecodedPhrase, num_disagreements
from crrg.inference.statements import Labeler, read_statement

Sides = Mapping[str, frozenset[str]]
"""Finding to the sides on which a film has it (``statements.known_sides``); a missing one may be on either."""


def num_wrong(text: str, wanted: LabelValues, labeler: Labeler, sides: Sides | None = None) -> int:
    """Return how many findings a text gets wrong; findings whose value is unknown do not count.

    Wrong is a finding that the text states or leaves open though it is wanted absent, or that it denies though it is
    wanted present. A denial that names one side is wrong only where the finding is known to be on that side, and one of
    a level of the lung alone never. A phrase describes one region, so what it leaves out is no fault of its own.

    Args:
        text: A phrase.
        wanted: Labels known of the film.
        labeler: Reads labels of a sentence.
        sides: Where the film has its findings.
    """
    claimed: set[str] = set()
    denied: dict[str, set[str]] = {}
    for statement in (read_statement(sentence, labeler) for sentence in split_sentences(text)):
        claimed |= statement.present
        for label, side in frozenset() if statement.is_local else statement.denied:
            denied.setdefault(label, set()).add(side)
    wrong = {label for label in claimed if wanted.get(label) == NEGATIVE}
    for label, without in denied.items():
        known = (sides or {}).get(label)
        is_false = bool(without & known) if known else without == set(SIDES)
        wrong |= {label} if is_false and wanted.get(label) == POSITIVE else set()
    return len(wrong)


def prefer_text(
    texts: Sequence[str],
    similarities: Sequence[float],
    labeler: Labeler,
    wanted: LabelValues | None = None,
    sides: Sides | None = None,
) -> int:
    """Return which of a region's hypotheses to take: clinically right first, then likest to the film.

    Among the right ones only those count that say of every finding what the first of them says, and beyond it state
    nothing but what the film is known to have: a wording never wins by saying less, nor by claiming or denying more
    than is known (the drift into flattery), but may by being more complete.

    Args:
        texts: At least one, the likeliest first.
        similarities: Cosine of film and text, one per text.
        labeler: Reads labels of a text.
        wanted: Labels known of the film; without them no text is wrong.
        sides: Where the film has its findings.
    """
    allowed = list(range(len(texts)))
    if wanted is not None:
        faults = [num_wrong(text, wanted, labeler, sides) for text in texts]
        right = [i for i, fault in enumerate(faults) if fault == min(faults)]
        said = {i: _said(texts[i], labeler) for i in right}
        first = said[right[0]]
        complete = first | {(label, POSITIVE) for label, value in wanted.items() if value == POSITIVE}
        allowed = [i for i in right if first <= said[i] <= complete]
    return max(allowed, key=lambda i: similarities[i])


def likest_to_film(
    hypotheses: Sequence[Sequence[DecodedPhrase]],
    flags: NDArray[np.floating[Any]],
    image_features: Tensor,
    encode: Callable[[Sequence[str]], Tensor],
) -> list[DecodedPhrase]:
    """Choose each phrase's hypothesis: what states its flags best first, among equals what is likest to the film.

    Args:
        hypotheses: Per phrase, the likeliest first.
        flags: ``[N, 15]`` that the phrases were conditioned on.
        image_features: ``[N, D]`` of length 1, of each phrase's film.
        encode: Texts to features ``[K, D]`` of length 1.

    Returns:
        One hypothesis per phrase; an empty list for none.
    """
    texts = sorted({phrase.text for found in hypotheses for phrase in found})
    place = {text: row for row, text in enumerate(texts)}
    features = encode(texts)
    chosen = []
    for found, wanted, film in zip(hypotheses, flags.tolist(), image_features, strict=True):
        faults = [num_disagreements(phrase, wanted) for phrase in found]
        best = [phrase for phrase, fault in zip(found, faults, strict=True) if fault == min(faults)]
        cosines = (features[[place[phrase.text] for phrase in best]] @ film).tolist()
        chosen.append(best[int(np.argmax(cosines))])
    return chosen


def _said(text: str, labeler: Labeler) -> frozenset[tuple[str, int]]:
    """Return what a text says of each finding that it mentions."""
    values = labeler(text)
    return frozenset((label, value) for label in FINDINGS if (value := values.get(label)) is not None)
