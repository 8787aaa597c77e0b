"""Reads the 14 CheXpert observations out of report text by rules: mention, negation, uncertainty.

Works on one sentence at a time and forgets the one before. Knows nothing of pictures and has no weights; how it does on
real reports is measured by ``benchmarks/labeler_openi.py``. The word lists are in ``label_patterns``.

Source: Irvin et al., CheXpert, AAAI 2019 (scheme and the rule for "No Finding"); scopes as in NegEx (Chapman et al., 2001).
"""

from __future__ import annotations

import re

from crrg.domain.labels import FINDINGS, NEGATIVE, POSITIVE, UNCERTAIN
from crrg.evaluation import label_patterns as words

_SUBJECTS: dict[str, tuple[str, ...]] = {
    "cardiomediastinum": ("Enlarged Cardiomediastinum", "Cardiomegaly"),
    "heart": ("Cardiomegaly",),
    "mediastinum": ("Enlarged Cardiomediastinum",),
    "lungs": ("Lung Opacity",),
    "angles": ("Pleural Effusion",),
    "other": (),
}
"""What is said of the subject when it is called normal."""

_ENLARGED_LABEL = {
    "cardiomediastinum": "Enlarged Cardiomediastinum",
    "heart": "Cardiomegaly",
    "mediastinum": "Enlarged Cardiomediastinum",
}
_RANK = {None: 0, NEGATIVE: 1, UNCERTAIN: 2, POSITIVE: 3}


def _build_pattern() -> re.Pattern[str]:
    groups: list[tuple[str, tuple[str, ...]]] = [
        ("neutral", words.NEUTRAL),
        ("break", words.BREAKS),
        ("post_uncertain", words.POST_UNCERTAIN),
        ("post_negated", words.POST_NEGATED),
        ("uncertain", words.UNCERTAIN_CUES),
        ("link", words.UNCERTAIN_LINKS),
        ("borderline", (words.BORDERLINE,)),
        ("negated", words.NEGATED_CUES),
        *((f"label_{FINDINGS.index(label)}", fragments) for label, fragments in words.MENTIONS.items()),
        ("subject_cardiomediastinum", (words.CARDIOMEDIASTINUM,)),
        ("subject_heart", (words.HEART,)),
        ("subject_mediastinum", (words.MEDIASTINUM,)),
        ("subject_lungs", (words.LUNGS,)),
        ("subject_angles", (words.ANGLES,)),
        ("subject_other", (words.OTHER_SUBJECTS,)),
        ("normal", (words.NORMAL,)),
        ("enlarged", (words.ENLARGED,)),
        ("clear", (words.CLEAR,)),
        ("sharp", (words.SHARP,)),
        ("blunted", (words.BLUNTED,)),
    ]
    branches = "|".join(f"(?P<{name}>{'|'.join(fragments)})" for name, fragments in groups)
    return re.compile(rf"(?P<semicolon>[;:])|(?P<comma_break>{words.COMMA_BREAK})|(?<![a-z0-9])(?:{branches})")
