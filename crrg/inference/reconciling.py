"""Which findings a draft states: what the regions show, as far as the film as a whole bears it out.

The selector reads each region by itself, the label head the film as a whole; together they know more than either. A
classifier over both (``film_findings``), fitted on validation films as the fused classifier is, but without a draft,
says which findings a film has; regions then gain or lose them. Arrays only; who decides whether a bundle does so is
``crrg.operations.training.fuse``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import FINDINGS, LABEL_INDEX, NUM_LABELS
from crrg.inference.consistency import CLAIM_SHARE
from crrg.inference.fusion import fusion_signals

FloatArray = NDArray[np.float64]


def film_signals(
    label_logits: NDArray[np.floating[Any]],
    finding_probabilities: NDArray[np.floating[Any]],
    abnormal_probabilities: NDArray[np.floating[Any]],
) -> FloatArray:
    """Return what film and regions say of each label ``[N, 14, 5]``: ``fusion_signals`` of films without a draft.

    Args:
        label_logits: ``[N, 14]`` of the film.
        finding_probabilities: ``[N, 29, 14]`` in 0..1, of the regions.
        abnormal_probabilities: ``[N, 29]`` in 0..1.
    """
    no_drafts: list[dict[str, int | None]] = [{} for _ in label_logits]
    return fusion_signals(label_logits, no_drafts, finding_probabilities, abnormal_probabilities)


def reconcile_flags(
    flags: NDArray[np.floating[Any]],
    finding_probabilities: NDArray[np.floating[Any]],
    label_probabilities: NDArray[np.floating[Any]],
    thresholds: NDArray[np.floating[Any]],
) -> NDArray[np.float32]:
    """Return the regions' finding flags as far as what is known of the whole film bears them out.

    A finding that the film has and no region shows is given to the region that shows it most, unless it has probability
    0 in all; one whose probability is far below its threshold is taken from every region. A region that is left without
    a finding is no longer abnormal.

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
        is_missed &= finding_probabilities[films, strongest, column] > 0  # 0: no region was found to show it
        changed[films[is_missed], strongest[is_missed], column] = 1
        changed[films[is_missed], strongest[is_missed], -1] = 1
    return changed


def shown_findings(flags: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return which labels at least one region shows, ``[..., 14]``, of flags ``[..., 29, 15]``."""
    return np.asarray(flags[..., :NUM_LABELS].any(axis=-2))
