"""Reads the 14 CheXpert observations out of report text by rules: mention, negation, uncertainty.

Works on one sentence at a time and forgets the one before. Knows nothing of pictures and has no weights; how it does on
real reports is measured by ``benchmarks/labeler_openi.py``. The word lists are in ``label_patterns``.

Source: Irvin et al., CheXpert, AAAI 2019 (scheme, rule for "No Finding"); scopes as in NegEx (Chapman et al., 2001).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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
        ("other_clause", words.OTHER_CLAUSE),
        ("post_negated", words.POST_NEGATED),
        ("post_uncertain", words.POST_UNCERTAIN),
        ("short_post_negated", words.SHORT_POST_NEGATED),
        ("part_of", (words.PART_OF,)),
        ("removed", words.REMOVED),
        ("history", (words.HISTORY,)),
        ("uncertain", words.UNCERTAIN_CUES),
        ("over", (words.OVER,)),
        ("link", words.UNCERTAIN_LINKS),
        ("alternative", (words.ALTERNATIVE,)),
        ("resumes", (words.RESUMES,)),
        ("no_abnormality", (words.NO_ABNORMALITY,)),
        ("borderline", (words.BORDERLINE,)),
        ("negated", words.NEGATED_CUES),
        ("fluid_and_air", (words.FLUID_AND_AIR,)),
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
    answers = rf"(?P<answer_no>{words.ANSWER_NO})|(?P<answer_perhaps>{words.ANSWER_PERHAPS})|(?P<asked>{words.ASKED})"
    commas = rf"(?P<comma_break>{words.COMMA_BREAK})|(?P<comma_other_clause>{words.COMMA_OTHER_CLAUSE})|(?P<comma>,)"
    turns = rf"(?P<gone>{words.GONE})|(?P<still_possible>{words.STILL_POSSIBLE})|(?P<other_side>{words.OTHER_SIDE})"
    stops = rf"{turns}|(?P<semicolon>;)|(?P<colon>:)|{commas}"
    return re.compile(rf"{answers}|{stops}|(?<![a-z0-9])(?:{branches})")


_PATTERN = _build_pattern()
_STOPS = frozenset(
    {"semicolon", "colon", "comma_break", "comma_other_clause", "comma", "other_clause", "other_side", "break"}
)
_LOOKING_BACK = frozenset(
    {"post_negated", "short_post_negated", "gone", "removed", "post_uncertain", "still_possible", "asked"}
    | {"answer_no", "answer_perhaps"}
)
_PREFERRED = re.compile(words.PREFERRED)
_SPACES = re.compile(r"\s+")


def _num_words(sentence: str, start: int, end: int) -> int:
    return len(sentence[start:end].split())


class _SentenceReader:
    """Walks the cues and mentions of one sentence from left to right and keeps the scope of each cue."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.carried: list[str] = []
        self.heading: dict[str, int] = {}
        self._begin_clause()

    def _begin_clause(self) -> None:
        self.polarity = POSITIVE
        self.clause: list[tuple[str, int]] = []
        self.subjects: list[str] = []
        self.num_before_comma = 0
        self.mention_end: int | None = None
        self.named: str | None = None
        self.alternative_end: int | None = None
        self.is_history = False
        self.is_settled = False
        self.is_of_part = False
        self.is_normal_ahead = False
        self.is_clear_ahead = False
        self.enlarged_ahead: int | None = None
        self.blunted_ahead: int | None = None
        self.is_borderline_ahead = False
        self.is_borderline_heart = False

    def read(self, sentence: str) -> dict[str, int]:
        """Return label values of a lower-case sentence."""
        for match in _PATTERN.finditer(sentence):
            kind = match.lastgroup or ""
            if kind.startswith("label_"):
                self._named(match, FINDINGS[int(kind[6:])])
            elif kind == "fluid_and_air":
                self._named(match, "Pneumothorax", "Pleural Effusion")
            elif kind.startswith("subject_"):
                self._subject(kind[8:])
            elif kind in _STOPS:
                self._stop(kind)
            elif kind in ("clear", "sharp", "normal", "enlarged", "blunted", "borderline"):
                self._state(kind)
            elif kind == "alternative":
                self._alternative(match)
            elif kind in _LOOKING_BACK:
                self._look_back(kind)
            elif kind == "over":
                if _PREFERRED.search(sentence, 0, match.start()):
                    self._cue("uncertain")
            else:
                self._cue(kind)
        self._close_clause()
        _keep(self.values, self.heading.items())
        return self.values

    def _alternative(self, match: re.Match[str]) -> None:
        """Remember an "or" that stands close behind a finding, unless that is known to be there ("no change in")."""
        if self.is_settled and match.group().endswith("new"):
            self.polarity = NEGATIVE
        is_near = self.mention_end is not None and _num_words(match.string, self.mention_end, match.start()) <= 2
        self.alternative_end = match.end() if is_near and not self.is_settled else None

    def _stop(self, kind: str) -> None:
        if kind == "other_clause" and self.polarity == POSITIVE:
            return
        if kind == "comma" or (kind == "comma_other_clause" and self.polarity == POSITIVE):
            self.num_before_comma = len(self.clause)
            self.is_history = False
            return
        subjects, named = self.subjects, self.named
        if kind == "colon":
            _keep(self.heading, self.clause)
            self.clause = []
        self._close_clause()
        self._begin_clause()
        self.carried = [] if kind == "semicolon" else subjects or self.carried
        if kind == "colon":
            self.subjects = subjects
        if kind == "other_side" and named is not None:
            self._mention(named, POSITIVE)

    def _cue(self, kind: str) -> None:
        if kind == "negated":
            self.polarity = NEGATIVE
        elif kind == "history":
            self.is_history = True
        elif kind == "resumes":
            self.polarity = POSITIVE
        elif kind == "no_abnormality":
            self.is_normal_ahead = self.polarity == NEGATIVE
        elif kind == "neutral":
            self.is_settled = True
        elif kind == "part_of":
            self.is_of_part = True
        elif kind == "uncertain" and self.polarity != NEGATIVE:
            self.polarity = UNCERTAIN
        elif kind == "link":
            self._revise(len(self.clause) - 1, UNCERTAIN)
            self.polarity = NEGATIVE if self.polarity == NEGATIVE else UNCERTAIN

    def _look_back(self, kind: str) -> None:
        if kind in ("post_negated", "answer_no"):
            self._revise(0, NEGATIVE)
        elif kind in ("short_post_negated", "gone"):
            self._revise(self.num_before_comma, NEGATIVE)
        elif kind == "removed":
            self.clause = [(label, NEGATIVE if label == "Support Devices" else value) for label, value in self.clause]
        elif kind in ("post_uncertain", "answer_perhaps"):
            self._revise(0, UNCERTAIN)
        elif kind == "asked":
            self._revise(self.num_before_comma, UNCERTAIN)
        elif kind == "still_possible":
            last = len(self.clause) - 1
            for i in range(max(0, min(self.num_before_comma, last)), last + 1):
                label, old = self.clause[i]
                self.clause[i] = (label, UNCERTAIN if old == NEGATIVE or i == last else old)
            self.polarity = POSITIVE

    def _revise(self, start: int, value: int) -> None:
        """Give the mentions of the clause from ``start`` on another value; a denied one does not become uncertain.

        Where a part of a device is spoken of, the device keeps its value.
        """
        for i in range(max(start, 0), len(self.clause)):
            label, old = self.clause[i]
            if self.is_of_part and label == "Support Devices":
                continue
            self.clause[i] = (label, value if value == NEGATIVE or old == POSITIVE else old)

    def _named(self, match: re.Match[str], *labels: str) -> None:
        """Take in a finding that is named; of two alternatives ("X or Y") neither is certain."""
        if self.is_history:
            return
        value = self.polarity
        if self.alternative_end is not None and value == POSITIVE and self.clause[-1][0] not in labels:
            is_near = _num_words(match.string, self.alternative_end, match.start()) <= 3
            value = UNCERTAIN if is_near else value
            if is_near and self.clause[-1][1] == POSITIVE:
                self.clause[-1] = (self.clause[-1][0], UNCERTAIN)
        for label in labels:
            self._mention(label, value)
        self.mention_end, self.alternative_end, self.named = match.end(), None, labels[-1]

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
                self.is_borderline_heart = True
            elif self.polarity != NEGATIVE:
                self.polarity = UNCERTAIN
                self.is_borderline_ahead = True
        elif kind == "enlarged":
            self.is_normal_ahead = False
            if self.is_borderline_heart and self.subjects[-1] == "heart":
                return
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
        if not self.subjects and (self.is_normal_ahead or self.is_clear_ahead):
            # "the lungs are hyperinflated but clear" speaks of the subject before the break
            self.subjects = self.carried
            self._call_all_normal("normal" if self.is_normal_ahead else "clear")
        for label, _ in self.clause:
            # a heading only says what is spoken of where that is named again ("Pneumothorax: no pneumothorax.")
            self.heading.pop(label, None)
        _keep(self.values, self.clause)


def _keep(values: dict[str, int], mentions: Iterable[tuple[str, int]]) -> None:
    for label, value in mentions:
        if _RANK[value] > _RANK[values.get(label)]:
            values[label] = value


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
