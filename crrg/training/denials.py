"""Say where films are known to have findings and hardly ever known not to have them."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import FINDINGS, NEGATIVE, POSITIVE

logger = logging.getLogger(__name__)

MIN_FILMS = 10
"""Films with a finding from which its denials are counted; in fewer, chance decides."""


def seldom_denied(labels: NDArray[np.int8] | NDArray[np.float32]) -> list[str]:
    """Return the findings that more films are known to have than not to have.

    Args:
        labels: ``[N, 14]``: 1 present, 0 absent, anything else unknown.
    """
    present, absent = (labels == POSITIVE).sum(axis=0), (labels == NEGATIVE).sum(axis=0)
    return [
        name
        for name, told, denied in zip(FINDINGS, present, absent, strict=False)
        if told >= MIN_FILMS and denied < told
    ]


def warn_of_denials(labels: NDArray[np.int8] | NDArray[np.float32], stage: str) -> None:
    """Say which findings a training knows hardly any film without, and what can be done.

    Args:
        labels: ``[N, 14]`` training labels: 1 present, 0 absent, anything else unknown.
        stage: Whose training it is, as its block is named in the form.
    """
    if names := seldom_denied(labels):
        logger.warning(
            "more films are known to have these findings than not to have them: %s. That is typical of labels read "
            "from reports, which rarely mention what is absent; probabilities of these findings will be far too "
            "high. Set unmentioned_absent = true in the blocks selector, clip and fusion of the form "
            "(docs/training-settings.md), unless these findings really are that common [%s]",
            ", ".join(names), stage,
        )  # fmt: skip
