"""Choices between what the stages offer, by asking another stage: which wording fits the film, which flags hold.

Arrays, tensors and texts only. Hypotheses come from ``decoding``, similarities from ``zero_shot``, probabilities from
``calibration``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crrg.domain.labels import FINDINGS, LABEL_INDEX, POSITIVE, LabelValues
from crrg.inference.consistency import CLAIM_SHARE
from crrg.inference.decoding import DecodedPhrase, num_disagreements

Labeler = Callable[[str], Mapping[str, int | None]]


def num_wrong(text: str, wanted: LabelValues, labeler: Labeler) -> int:
    """Return how many findings a text states that are wanted absent; findings whose value is unknown do not count.

    A phrase describes one region, so what it leaves out is no fault of its own.
    """
    values = labeler(text)
    return sum(values.get(label) == POSITIVE and wanted.get(label) == 0 for label in FINDINGS)


def prefer_text(
    texts: Sequence[str], similarities: Sequence[float], labeler: Labeler, wanted: LabelValues | None = None
) -> int:
    """Return which of a region's hypotheses to take: clinically right first, then likest to the film.

    Among the right ones only those count that state as many findings as the first of them does, so that a wording
    never wins by saying less or more (the drift into flattery).

    Args:
        texts: At least one, the likeliest first.
        similarities: Cosine of film and text, one per text.
        labeler: Reads labels of a text.
        wanted: Labels known of the film; without them no text is wrong.
    """
    if wanted is None:
        allowed = list(range(len(texts)))
    else:
        faults = [num_wrong(text, wanted, labeler) for text in texts]
        allowed = [i for i, fault in enumerate(faults) if fault == min(faults)]
    first = _stated(texts[allowed[0]], labeler)
    allowed = [i for i in allowed if _stated(texts[i], labeler) == first] if wanted is not None else allowed
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


def reconcile_flags(
    flags: NDArray[np.floating[Any]],
    finding_probabilities: NDArray[np.floating[Any]],
    label_probabilities: NDArray[np.floating[Any]],
    thresholds: NDArray[np.floating[Any]],
) -> NDArray[np.float32]:
    """Return the regions' finding flags as far as the labels of the whole film bear them out.

    A finding that the film has and no region shows is given to the region that shows it most; one whose probability is
    far below its threshold is taken from every region. A region that is left without a finding is no longer abnormal.

    Args:
        flags: ``[N, 29, 15]``: 14 findings and abnormality.
        finding_probabilities: ``[N, 29, 14]`` in 0..1.
        label_probabilities: ``[N, 14]`` of the films.
        thresholds: ``[14]`` in 0..1.
    """
    changed = np.array(flags, dtype=np.float32)
    films = np.arange(len(changed))
    for label in FINDINGS:
        column = LABEL_INDEX[label]
        is_denied = label_probabilities[:, column] < CLAIM_SHARE * thresholds[column]
        had_any = changed[..., :-1].any(axis=2)
        changed[is_denied, :, column] = 0
        changed[..., -1] = np.where(had_any & ~changed[..., :-1].any(axis=2), 0, changed[..., -1])
        is_missed = (label_probabilities[:, column] >= thresholds[column]) & ~changed[..., column].any(axis=1)
        strongest = finding_probabilities[..., column].argmax(axis=1)
        changed[films[is_missed], strongest[is_missed], column] = 1
        changed[films[is_missed], strongest[is_missed], -1] = 1
    return changed


def _stated(text: str, labeler: Labeler) -> frozenset[str]:
    values = labeler(text)
    return frozenset(label for label in FINDINGS if values.get(label) == POSITIVE)
