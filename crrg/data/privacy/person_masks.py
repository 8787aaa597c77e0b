"""Masks for what a report may say of a person, and the refusal of what cannot be masked safely.

Works on text and on the names that the tags of the same study hold. Measurements, vertebral levels and times of day
stay. A name that stands in no tag is only found beside a title, a role or a label such as "Name:".

Source: 45 CFR 164.514 (b)(2).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from crrg.data.privacy.date_masks import mask_dates
from crrg.data.privacy.name_spellings import names_pattern
from crrg.errors import ReportError

MASK = "<deid>"

_WRITTEN_TO = (
    re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE),
    re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.]*\d)"),
    re.compile(r"(?<![\d.])[0-2](?:\.\d+){4,}"),
)
_NUMBERS = (
    re.compile(r"(?<![\w.])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)\s?|\d{3}[ .-])\d{3}[ .-]?\d{4}\b"),
    re.compile(r"(?<![\w.])\+\d{1,3}(?:[ .-]?\d{2,5}){2,4}\b"),
    re.compile(r"(?<![\w.-])\d{3}-\d{4}\b(?!-)"),
    re.compile(r"\b\d{3}-\d{2}-\d{4}\b"),
    re.compile(
        r"(?<=\b(?:pager|phone) )#?\s?[\d-]{3,}|(?<=\bbeeper )#?\s?[\d-]{3,}|(?<=\bext\. )\d{2,6}\b", re.IGNORECASE
    ),
    re.compile(r"\b(?:tel|telephone|telefon|phone|fax)\b[.:]?\s?[+(]?\d[\d /().-]{3,}\d", re.IGNORECASE),
    re.compile(r"(?:(?<=\bserial )(?:number|no\.?|#)|\bS/N)[\s#:.]*(?=[\w-]*\d)[\w-]+", re.IGNORECASE),
    re.compile(
        r"\b(?:MRN|MR ?#|med(?:ical)?\.? rec(?:ord)?\.?(?: number| no\.?| ?#)?"
        r"|accession(?: number| no\.?)?|acc\.?(?: number| no\.?| ?#)|patient id"
        r"|SSN|social security(?: number)?|account(?: number| no\.?)"
        r"|encounter(?: number| no\.?))[\s#:.]*(?=[\w-]*\d)[\w-]+",
        re.IGNORECASE,
    ),
    re.compile(r"\b\d{7,}\b"),
)
_DIGIT = re.compile(r"\d")
_STREET = r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Court|Ct|Highway|Hwy|Parkway|Pkwy)\b\.?"
_ADDRESSES = (
    re.compile(rf"\b\d{{1,5}} (?:[NSEW]\.? )?(?:[A-Z][\w'-]+ ){{1,3}}{_STREET}(?:,? (?:Apt|Suite|Unit|#) ?\w+)?"),
    re.compile(r"\b(?:[A-Z][a-z]+,? )?[A-Z]{2},? \d{5}(?:-\d{4})?\b"),
)
_NAME = r"[A-Z][A-Za-z'’-]*[a-z][A-Za-z'’-]*"
_MIXED = rf"(?:{_NAME}|[A-Z]\.)(?: (?:[A-Z]\.|(?:van|von|de|la|del) )? ?{_NAME}){{0,2}}"
_NO_NAMES_BEHIND_TITLE = (
    "and|has|had|was|were|for|who|the|will|called|notified|informed|told|aware|with|from|about|over"
)
_SPOKEN_OF = (
    re.compile(
        r"(?P<kept>\b(?:(?:Dr|DR|Drs|Mr|MR|Mrs|Ms|Prof)(?:\. ?| )|(?:Doctor|Professor|Nurse) ))"
        rf"(?:{_MIXED}|[A-Z][A-Z'-]+)(?: (?:and|&) (?:Dr\.? )?{_NAME})*"
    ),
    re.compile(rf"(?P<kept>\b[Dd]r\.? )(?!(?:{_NO_NAMES_BEHIND_TITLE})\b)[a-z][a-z'-]{{2,}}\b"),
    re.compile(
        r"(?P<kept>\b(?:dictated|signed|read|reviewed|interpreted|transcribed|approved|verified|notified) by:? )"
        rf"(?:{_MIXED}|[A-Z][A-Z'-]+ [A-Z][A-Z'-]+)",
    ),
    re.compile(
        r"(?P<kept>\b(?:Dictated|Signed|Electronically signed|Read|Reviewed|Interpreted|Transcribed|Approved|Verified|"
        r"DICTATED|SIGNED|ELECTRONICALLY SIGNED|READ|REVIEWED|APPROVED|VERIFIED) (?:by|BY):? )"
        rf"(?:{_MIXED}|[A-Z][A-Z'-]+(?: [A-Z][A-Z'-]+)?)"
    ),
    re.compile(
        rf"(?P<kept>)\b{_NAME}(?: [A-Z]\.)? {_NAME}"
        r"(?=,? (?:M\.?D\.?|D\.?O\.?|R\.?N\.?|N\.?P\.?|PA-C)(?![A-Za-z]))"
    ),
    re.compile(rf"(?P<kept>)\b{_NAME}(?=, (?:M\.?D\.?|D\.O\.|R\.?N\.?|N\.?P\.?|PA-C)(?![A-Za-z]))"),
    re.compile(
        r"(?P<kept>\b(?:[Pp]atient(?:'s)? [Nn]ame|PATIENT NAME|Name|NAME) ?: ?)"
        rf"(?:{_MIXED}|[A-Z][A-Z',-]+(?: [A-Z][A-Z'-]+)?)"
    ),
)
_OVER_89 = r"(?:9\d|1[0-2]\d)"
_OLD_AGE = (
    re.compile(
        rf"(?P<kept>)\b{_OVER_89}"
        r"(?=[ -]?(?:(?:years?|yrs?)(?: of age|[ -]old)\b|y\.?/? ?o\b|jährig|ans\b|años\b|anos\b|anni\b))",
        re.IGNORECASE,
    ),
    re.compile(rf"(?P<kept>\bage[ds]?:? (?:of )?){_OVER_89}\b(?! ?(?:cm|mm|%))", re.IGNORECASE),
)
_LABELED = re.compile(
    r"\b(?P<label>patient(?:'s)? name|date of birth|dob|social security|ssn|home address|next of kin"
    rf"|insurance (?:id|number)) ?(?::|#|=)\s*(?!{MASK})[^\s.]",
    re.IGNORECASE,
)
_NAME_PARTS = re.compile(r"[^\W\d_]+")
_NO_NAMES = frozenset(
    (
        "patient",
        "anonymous",
        "anonymized",
        "anonymised",
        "unknown",
        "none",
        "test",
        "male",
        "female",
        "phantom",
        "drawn",
    )
)
"""Words that stand in name fields without being names."""

_UNSPACED_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI")
SHORTEST_MASKED_NAME = 3
"""A shorter part of a name is too like a word or a measure to be masked everywhere."""


def mask_text(text: str, names: Iterable[str] = ()) -> str:
    """Replace what points to a person in report text by ``<deid>``.

    Masked are dates (``date_masks``), e-mail, web and IP addresses, UIDs, telephone, pager, serial and record numbers,
    digits in runs of seven or more, street addresses, ages above 89, names behind a title or a role ("Dr. X", "signed
    by X") or before one ("X, MD"), and every part with at least three letters of the given names, with and without
    accents; of names in a script without spaces every part of two signs, and a shorter part where it stands beside a
    masked one.

    Args:
        text: Report text.
        names: Names from the tags of the same study, DICOM or plain.
    """
    for pattern in _WRITTEN_TO:
        text = pattern.sub(MASK, text)
    if _DIGIT.search(text):
        # most sentences have no digit, and all of these need one
        text = mask_dates(text, MASK)
        for pattern in (*_NUMBERS, *_ADDRESSES):
            text = pattern.sub(MASK, text)
        for pattern in _OLD_AGE:
            text = pattern.sub(rf"\g<kept>{MASK}", text)
    for pattern in _SPOKEN_OF:
        text = pattern.sub(rf"\g<kept>{MASK}", text)
    return _mask_names(text, _parts(names))


def check_masked(text: str, names: Iterable[str] = ()) -> None:
    """Refuse masked text that still seems to say who the patient is.

    Args:
        text: Report text as ``mask_text`` returns it.
        names: Names from the tags of the same study.

    Raises:
        ReportError: A label such as "Date of birth:" has a value that was not masked (``PHI.LABELED``), or a part of a
            name that is too short to be masked stands in the text, written as a name (``PHI.NAME``).
    """
    if _LABELED.search(text):
        raise ReportError("a field that identifies the patient is left in the text; remove it", code="PHI.LABELED")
    short = [part.capitalize() for part in _parts(names) if len(part) < SHORTEST_MASKED_NAME and not _is_unspaced(part)]
    if any(re.search(rf"(?<![.!?] )(?<!^)(?<!\n)\b{part}\b", text) for part in short):
        raise ReportError("a part of the patient's name may be left in the text; remove it", code="PHI.NAME")


def _mask_names(text: str, parts: set[str]) -> str:
    unspaced = sorted((part for part in parts if _is_unspaced(part)), key=lambda part: (-len(part), part))
    if long := [part for part in unspaced if len(part) > 1]:
        text = re.sub("|".join(map(re.escape, long)), MASK, text)
    for sign in (part for part in unspaced if len(part) == 1):
        text = re.sub(rf"{sign}(?= ?{MASK})|(?<={MASK}){sign}", MASK, text)
    spaced = sorted(parts.difference(unspaced), key=lambda part: (-len(part), part))
    if long := [part for part in spaced if len(part) >= SHORTEST_MASKED_NAME]:
        text = names_pattern(tuple(long), in_ascii=text.isascii()).sub(MASK, text)
    for part in (part.capitalize() for part in spaced if len(part) < SHORTEST_MASKED_NAME):
        text = re.sub(rf"\b{part}(?=[ -]{MASK})|(?<={MASK}[ -]){part}\b", MASK, text)
    return text


def _is_unspaced(part: str) -> bool:
    """Return whether a name is written in a script that puts no space between words."""
    return unicodedata.name(part[0], "").startswith(_UNSPACED_SCRIPTS)


def _parts(names: Iterable[str]) -> set[str]:
    found = {part for name in names for part in _NAME_PARTS.findall(unicodedata.normalize("NFC", name))}
    return {part for part in found if part.lower() not in _NO_NAMES and (len(part) > 1 or _is_unspaced(part))}
