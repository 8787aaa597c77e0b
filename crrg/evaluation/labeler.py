"""Reads the 14 CheXpert observations out of report text by rules: mention, negation, uncertainty.

Works on one sentence at a time and forgets the one before. Knows nothing of pictures and has no weights; how it does on
real reports is measured by ``benchmarks/labeler_openi.py``. The word lists are in ``label_patterns``.

Source: Irvin et al., CheXpert, AAAI 2019 (scheme, rule for "No Finding"); scopes as in NegEx (Chapman et al., 2001).
"""

from __future__ import annotations

import re
from functools import lru_cache

from crrg.domain.labels import FINDINGS, LABELS, NEGATIVE, NO_FINDING, POSITIVE, UNCERTAIN
from crrg.domain.sentences import split_sentences
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


_PATTERN = _build_pattern()
_SPACES = re.compile(r"\s+")


class _SentenceReader:
    """Walks the cues and mentions of one sentence from left to right and keeps the scope of each cue."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self._begin_clause()

    def _begin_clause(self) -> None:
        self.polarity = POSITIVE
        self.clause: list[tuple[str, int]] = []
        self.subjects: list[str] = []
        self.is_normal_ahead = False
        self.is_clear_ahead = False
        self.enlarged_ahead: int | None = None
        self.blunted_ahead: int | None = None
        self.is_borderline_ahead = False

    def read(self, sentence: str) -> dict[str, int]:
        """Return label values of a lower-case sentence."""
        for match in _PATTERN.finditer(sentence):
            kind = match.lastgroup or ""
            if kind.startswith("label_"):
                self._mention(FINDINGS[int(kind[6:])], self.polarity)
            elif kind.startswith("subject_"):
                self._subject(kind[8:])
            elif kind in ("semicolon", "comma_break", "break"):
                self._close_clause()
                self._begin_clause()
            elif kind in ("clear", "sharp", "normal", "enlarged", "blunted", "borderline"):
                self._state(kind)
            else:
                self._cue(kind)
        self._close_clause()
        return self.values

    def _cue(self, kind: str) -> None:
        if kind == "negated":
            self.polarity = NEGATIVE
        elif kind == "uncertain" and self.polarity != NEGATIVE:
            self.polarity = UNCERTAIN
        elif kind == "post_negated":
            self.clause = [(label, NEGATIVE) for label, _ in self.clause]
        elif kind in ("post_uncertain", "link"):
            self.clause = [(label, UNCERTAIN if value == POSITIVE else value) for label, value in self.clause]
            if kind == "link" and self.polarity != NEGATIVE:
                self.polarity = UNCERTAIN

    def _mention(self, label: str, value: int) -> None:
        self.clause.append((label, value))

    def _subject(self, subject: str) -> None:
        if self.is_normal_ahead or (self.is_clear_ahead and subject in ("lungs", "angles")):
            self._call_normal(subject)
        if self.enlarged_ahead is not None:
            self._call_enlarged(subject, self.enlarged_ahead)
            self.enlarged_ahead = None
        if self.is_borderline_ahead and subject == "heart":
            self._mention("Cardiomegaly", UNCERTAIN)
        if self.blunted_ahead is not None and subject == "angles":
            self._mention("Pleural Effusion", self.blunted_ahead)
            self.blunted_ahead = None
        self.subjects.append(subject)

    def _state(self, kind: str) -> None:
        if kind == "borderline":
            if "heart" in self.subjects:
                self._mention("Cardiomegaly", UNCERTAIN)
            elif self.polarity != NEGATIVE:
                self.polarity = UNCERTAIN
                self.is_borderline_ahead = True
        elif kind == "enlarged":
            self.is_normal_ahead = False
            if self.subjects:
                self._call_enlarged(self.subjects[-1], self.polarity)
            else:
                self.enlarged_ahead = self.polarity
        elif kind == "blunted":
            value = UNCERTAIN if self.polarity == POSITIVE else self.polarity
            if "angles" in self.subjects:
                self._mention("Pleural Effusion", value)
            else:
                self.blunted_ahead = value
        elif self.polarity != NEGATIVE:
            self._call_all_normal(kind)

    def _call_all_normal(self, kind: str) -> None:
        for subject in self.subjects:
            if kind == "normal" or subject in ("lungs", "angles"):
                self._call_normal(subject)
        self.is_normal_ahead = self.is_normal_ahead or (kind == "normal" and not self.subjects)
        self.is_clear_ahead = self.is_clear_ahead or (kind == "clear" and not self.subjects)

    def _call_normal(self, subject: str) -> None:
        for label in _SUBJECTS[subject]:
            self._mention(label, NEGATIVE)

    def _call_enlarged(self, subject: str, value: int) -> None:
        if subject in _ENLARGED_LABEL:
            self._mention(_ENLARGED_LABEL[subject], value)

    def _close_clause(self) -> None:
        for label, value in self.clause:
            if _RANK[value] > _RANK[self.values.get(label)]:
                self.values[label] = value


@lru_cache(maxsize=65536)
def _read_sentence(sentence: str) -> tuple[tuple[str, int], ...]:
    return tuple(_SentenceReader().read(_SPACES.sub(" ", sentence.lower())).items())


def label_sentence(sentence: str) -> dict[str, int]:
    """Return the findings that one sentence speaks of.

    Args:
        sentence: One sentence of a report; case does not matter.

    Returns:
        Label to 1 (present), 0 (denied) or -1 (uncertain), only labels that are mentioned, never "No Finding". Inside
        one sentence present wins over uncertain, and uncertain over denied.
    """
    return dict(_read_sentence(sentence))


def label_report(text: str | None) -> dict[str, int | None]:
    """Return the 14 observations of a report.

    Args:
        text: Findings and impression, any number of sentences; ``None`` and empty text are no report.

    Returns:
        All of ``LABELS``: 1, 0, -1, or ``None`` where unmentioned. "No Finding" is 1 if there is text and nothing but
        support devices is present or uncertain, else 0; without text all are ``None``.
    """
    values: dict[str, int | None] = dict.fromkeys(LABELS)
    sentences = split_sentences(text) if text else []
    for sentence in sentences:
        for label, value in _read_sentence(sentence):
            if _RANK[value] > _RANK[values[label]]:
                values[label] = value
    if sentences:
        found = any(values[label] in (POSITIVE, UNCERTAIN) for label in FINDINGS if label != "Support Devices")
        values[NO_FINDING] = int(not found)
    return values


def positive_labels(text: str | None, *, include_uncertain: bool = False) -> tuple[str, ...]:
    """Return the labels that a report states as present, in the order of ``LABELS``.

    Args:
        text: Report text.
        include_uncertain: Whether a possible finding counts as well.

    Returns:
        Label names; empty for no text.
    """
    wanted = (POSITIVE, UNCERTAIN) if include_uncertain else (POSITIVE,)
    return tuple(label for label, value in label_report(text).items() if value in wanted)
