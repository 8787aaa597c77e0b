"""Whether a phrase describes an abnormality: its labels first, then words for what the 14 labels do not cover.

Knows no regions. What labels a text is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from crrg.domain.labels import FINDINGS, POSITIVE, UNCERTAIN, LabelValues
from crrg.domain.sentences import split_sentences

_ABNORMAL = re.compile(
    r"\b(?:tortuous|tortuosity|ectatic|ectasia|unfold\w*|atheroscler\w+|calcif\w+|scolio\w+|kypho\w+|levo\w+|dextro\w+"
    r"|degenerati\w+|spondyl\w+|osteophyt\w+|osteopen\w+|wedg\w+|compression|deformit\w+|herni\w+|elevat\w+|flatten\w+"
    r"|eventration|hyper-?(?:inflat|expan)\w+|emphysem\w*|copd|chronic|scar\w*|fibro\w+|granulom\w+|bronchiect\w+"
    r"|prominen\w+|low lung volumes|deviat\w+|displac\w+|enlarg\w+|widen\w+|obscur\w+|blunt\w+|adenopathy"
    r"|lymphadenopathy|collaps\w+|volume loss|resect\w+|lobectomy|congest\w+|crowding|thicken\w+"
    r"|free (?:\w+ )?air|pneumoperitoneum|pneumomediastinum)\b",
    re.IGNORECASE,
)
_NORMAL = re.compile(
    r"\b(?:normal|unremarkable|clear|intact|midline|central|sharp|preserved|well[- ](?:defined|expanded|aerated)|smooth"
    r"|within (?:normal )?limits|no|without|negative|free|not)\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:no|not|without|negative for|free of|absence of|nor)\b", re.IGNORECASE)


def is_phrase_abnormal(phrase: str, label: Callable[[str], LabelValues]) -> bool | None:
    """Return whether a phrase describes an abnormality.

    Args:
        phrase: One or more sentences about one region.
        label: Labels a text; a stated or possible finding other than a device is an abnormality.

    Returns:
        ``True`` or ``False``, or ``None`` where neither labels nor words tell, e.g. "The carina is seen".
    """
    values = label(phrase)
    findings = [values.get(name) for name in FINDINGS if name != "Support Devices"]
    if any(value in (POSITIVE, UNCERTAIN) for value in findings):
        return True
    if any(_has_abnormal_word(sentence) for sentence in split_sentences(phrase)):
        return True
    is_told_normal = any(value is not None for value in values.values()) and any(v is not None for v in findings)
    has_device = values.get("Support Devices") == POSITIVE
    return False if is_told_normal or has_device or _NORMAL.search(phrase) else None


def _has_abnormal_word(sentence: str) -> bool:
    found = _ABNORMAL.search(sentence)
    return found is not None and not _NEGATION.search(sentence[: found.start()])
