"""The 14 CheXpert observations, in their fixed order, and what a label value means.

Source: Irvin et al., CheXpert, AAAI 2019; the order is the one of the CheXbert labeler.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import TypeAlias

LABELS: tuple[str, ...] = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
FINDINGS: tuple[str, ...] = LABELS[:-1]
NO_FINDING = "No Finding"
NUM_LABELS = len(LABELS)
LABEL_INDEX: Mapping[str, int] = {label: i for i, label in enumerate(LABELS)}

POSITIVE = 1
NEGATIVE = 0
UNCERTAIN = -1
"""Unmentioned is ``None``: masked in losses and metrics unless a training asks for ``deny_unmentioned``; never
negative in the data itself."""

LabelValues: TypeAlias = Mapping[str, int | None]
"""Label name (as in ``LABELS``) to 1, 0, -1 or ``None``; a missing name means unmentioned."""


def deny_unmentioned(values: LabelValues) -> LabelValues:
    """Return labels with the unmentioned ones as absent; as they are where nothing at all is known of a film.

    A report says what is there and denies little of what is not: of the films whose labels were read from reports,
    those that are known not to have a rare finding are few or none, and a classifier learns nothing of it.
    """
    if all(values.get(label) is None for label in LABELS):
        return values
    return {label: NEGATIVE if (value := values.get(label)) is None else value for label in LABELS}


def label_column(label: str) -> str:
    """Return the snake-case name of a label in Parquet (``Pleural Effusion`` -> ``pleural_effusion``)."""
    return label.lower().replace(" ", "_")


def canonical_label(text: str) -> str:
    """Return the label that a text names, however a person types it; any other text in its own case.

    Case, spaces, underscores, dashes, quotes and a full stop make no difference to a label; other texts keep their
    hyphens, and quotes and marks only inside.
    """
    # as one letter each, and without what is pasted along and seen by nobody, such as a space of no width
    seen = "".join(letter for letter in unicodedata.normalize("NFKC", text) if unicodedata.category(letter) != "Cf")
    words = " ".join(seen.replace("_", " ").split()).strip(_MARKS)
    return _LABEL_OF.get(" ".join(_DASHES.sub(" ", words).casefold().split()), words)


_DASHES = re.compile(r"[-\u2010-\u2014]")
_MARKS = " .,;:!?-\"'`\u2018\u2019\u201c\u201d"
_LABEL_OF: Mapping[str, str] = {**{label.casefold(): label for label in LABELS}, "no findings": NO_FINDING}
LABEL_COLUMNS: tuple[str, ...] = tuple(label_column(label) for label in LABELS)
