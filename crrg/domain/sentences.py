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
        "etc",
        "fig",
        "no.",
        "inc",
        "jr",
        "sr",
        "dept",
        "resp",
        "ca",
        "cf",
        "viz",
        "al",
        "a.m",
        "p.m",
    ]
)
_BOUNDARY = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)|(?<=[a-z)])\.(?=[A-Z][a-z])|\n\s*\n|\n(?=\s*(?:[-*•]|\d{1,2}[.)]\s))")
_UNITS = frozenset(("cm", "mm", "in", "approx", "fr", "hr", "hrs", "min", "max", "incl", "poss", "prob", "c/w", "r/o"))
"""Shortened words that may end a sentence, but do not where a small letter follows."""
_SMALL_LETTER_NEXT = re.compile(r"\s+[a-z]")
_LIST_MARKER = re.compile(r"^\s*(?:[-*•]+\s+|\(?\d{1,2}[.)]\s+)")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


def split_sentences(text: str) -> list[str]:
    """Cut report text into sentences.

    Full stops inside decimals (``1.5 cm``) and after abbreviations (``Dr.``, ``vs.``) do not end a sentence, nor does
    an ellipsis or a unit (``cm.``) before a small letter, nor a semicolon; blank lines and list items do. List markers
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
        if text[match.start()] == "." and not _ends_sentence(before, match.group(), after):
            continue
        _append(sentences, text[start : match.end()])
        start = match.end()
    _append(sentences, text[start:])
    return sentences


def _ends_sentence(before: str, stop: str, after: str) -> bool:
    before = before.removesuffix("\n")
    if not before or before[-1].isspace():
        return False
    words = before.rsplit(None, 1)
    token = words[-1].lower().lstrip("(")
    is_list_marker = token.isdigit() and len(token) <= 2 and (len(words) == 1 or not words[0].strip())
    is_open = (token in _UNITS or stop.startswith("...")) and _SMALL_LETTER_NEXT.match(after) is not None
    return not (is_list_marker or is_open or token in _ABBREVIATIONS)


def _append(sentences: list[str], piece: str) -> None:
    sentence = " ".join(_LIST_MARKER.sub("", piece).split())
    if _LETTER_OR_DIGIT.search(sentence):
        sentences.append(sentence)
