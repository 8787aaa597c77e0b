"""The one rule by which report text is cut into sentences.

Here because both the data room (phrases) and the evaluation room (labels) need the same cut. It knows nothing of
sections or labels: see ``crrg.data.reports.sections`` and ``crrg.evaluation.labeler``.
"""

from __future__ import annotations

import re

_ABBREVIATIONS = frozenset(
    [
        "dr",
        "mr",
        "mrs",
        "ms",
        "prof",
        "st",
        "vs",
        "approx",
        "e.g",
        "i.e",
        "fig",
        "no.",
        "inc",
        "jr",
        "sr",
        "dept",
        "resp",
        "cf",
        "viz",
    ]
)
_BOUNDARY = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)|(?<=[a-z)])\.(?=[A-Z][a-z])|\n\s*\n|\n(?=\s*(?:[-*•]|\d{1,2}[.)]\s))")
_UNITS = frozenset(("cm", "mm", "in", "approx", "fr", "hr", "hrs", "min", "max", "incl", "poss", "prob", "c/w", "r/o"))
"""Shortened words that may end a sentence, but do not where a small letter follows."""
_BEFORE_FIGURES = frozenset(("etc", "ca", "al", "a.m", "p.m"))
"""The same, where a figure may follow within the sentence as well ("ca. 3 cm", "et al. 2019")."""
_SMALL_LETTER_NEXT = re.compile(r"\s+[a-z]")
_LETTER_OR_FIGURE_NEXT = re.compile(r"\s+[a-z0-9]")
_LIST_MARKER = re.compile(r"^\s*(?:[-*•]+\s+|\(?\d{1,2}[.)]\s+)")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


def split_sentences(text: str) -> list[str]:
    """Cut report text into sentences.

    Full stops inside decimals (``1.5 cm``) and after abbreviations (``Dr.``, ``vs.``) do not end a sentence, nor does
    an ellipsis or a unit (``cm.``) before a small letter, nor ``a.m.`` before one or a figure, nor a question mark by
    itself before what it doubts (``? pneumonia``), nor a semicolon; blank lines and list items do. List markers
    (``1.``, ``-``) are dropped; white space inside a sentence becomes one space.

    Args:
        text: Any report text.

    Returns:
        Sentences with their final punctuation; an empty list for text without a letter or digit.
    """
    sentences: list[str] = []
    start = 0
    for match in _BOUNDARY.finditer(text):
        before, after = text[start : match.start()], text[match.end() :]
        if text[match.start()] == "?" and _is_doubt(before, after):
            continue
        if text[match.start()] == "." and not _ends_sentence(before, match.group(), after):
            continue
        _append(sentences, text[start : match.end()])
        start = match.end()
    _append(sentences, text[start:])
    return sentences


def _is_doubt(before: str, after: str) -> bool:
    """Return whether a question mark stands by itself before what it doubts ("opacity, ? pneumonia")."""
    return (not before or before[-1] in " \t\n(") and _SMALL_LETTER_NEXT.match(after) is not None


def _ends_sentence(before: str, stop: str, after: str) -> bool:
    before = before.removesuffix("\n")
    if not before or before[-1].isspace():
        return False
    words = before.rsplit(None, 1)
    token = words[-1].lower().lstrip("(")
    is_list_marker = token.isdigit() and len(token) <= 2 and (len(words) == 1 or not words[0].strip())
    is_open = (token in _UNITS or stop.startswith("...")) and _SMALL_LETTER_NEXT.match(after) is not None
    is_open = is_open or (token in _BEFORE_FIGURES and _LETTER_OR_FIGURE_NEXT.match(after) is not None)
    return not (is_list_marker or is_open or token in _ABBREVIATIONS)


def _append(sentences: list[str], piece: str) -> None:
    sentence = " ".join(_LIST_MARKER.sub("", piece).split())
    if _LETTER_OR_DIGIT.search(sentence):
        sentences.append(sentence)
