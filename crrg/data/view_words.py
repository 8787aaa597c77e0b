"""Which projection the words of a tag or of a table name, one rule for all archives.

Hospitals write more than the defined terms: ``AP SUPINE``, ``P.A.``, ``Frontal``. A view that is named and is none of
the frontal ones counts as lateral; words that leave open which one it is count as unknown.

Source: DICOM PS3.3 C.8.1.2 (View Position).
"""

from __future__ import annotations

import re

from crrg.domain.study import ViewPosition

_APART = re.compile(r"\b([AP])(?:[./ -]|NTERO[ -]?|OSTERO[ -]?)([AP])(?:NTERIOR|OSTERIOR)?\b")
_WORD = re.compile(r"[A-Z]+")
_FRONTAL = frozenset({"PA", "AP"})
_LEFT_LATERAL = frozenset({"LL"})
_OTHER_VIEWS = frozenset(
    ("LAT", "LATERAL", "LL", "RL", "LLD", "RLD", "LLO", "RLO", "RAO", "LAO", "RPO", "LPO", "OBL", "OBLIQUE", "DECUB",
     "DECUBITUS", "LLDECUB", "RLDECUB", "AXIAL", "LORDOTIC", "SWIMMER", "SWIMMERS")
)  # fmt: skip
"""Words that make a view another one than the frontal one they may stand beside (``AP AXIAL``)."""
_LEAVE_OPEN = frozenset(
    ("FRONTAL", "FRONTALE", "FACE", "UNKNOWN", "UNDEFINED", "UNSPECIFIED", "OTHER", "NONE", "NA",
     "SUPINE", "PRONE", "ERECT", "UPRIGHT", "STANDING", "SITTING", "RECUMBENT", "PORTABLE", "MOBILE", "BED", "BEDSIDE")
)  # fmt: skip
"""Words for a frontal film, for no view, and for how a patient was placed."""


def view_of_words(text: str) -> ViewPosition | None:
    """Return the projection that some words name.

    Args:
        text: Value of a tag or a cell, in any case.

    Returns:
        ``None`` where nothing is said, ``UNKNOWN`` where the words leave it open, and ``LATERAL`` for every named view
        that is neither PA, AP nor LL.
    """
    if not text.strip():
        return None
    words = set(_WORD.findall(_APART.sub(r"\1\2", text.upper())))
    others, frontal = words & _OTHER_VIEWS, words & _FRONTAL
    if others:
        return ViewPosition.LL if others == _LEFT_LATERAL and not frontal else ViewPosition.LATERAL
    if len(frontal) == 1:
        return ViewPosition(frontal.pop())
    return ViewPosition.UNKNOWN if frontal or not words or words & _LEAVE_OPEN else ViewPosition.LATERAL
