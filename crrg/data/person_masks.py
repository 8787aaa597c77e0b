"""Masks for what a report may say of a person, and the refusal of what cannot be masked safely.

Works on text and on the names that the tags of the same study hold. Measurements, vertebral levels and times of day
stay. A name that stands in no tag is only found beside a title, a role or a label such as "Name:".

Source: 45 CFR 164.514 (b)(2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from crrg.errors import ReportError

MASK = "<deid>"

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_NO_UNIT = r"(?!\s*(?:cm|mm|ml|cc|%|x\b|of\b))"
_NUMERIC_DATES = (
    rf"\b(?:\d{{1,2}}(?P<separator>[/.-])\d{{1,2}}(?P=separator)(?:19|2[0-2])?\d{{2}}|(?:19|2[0-2])\d{{2}}(?P<other>[/.-])"
    rf"\d{{1,2}}(?P=other)\d{{1,2}})(?:T\d{{2}}:\d{{2}}(?::\d{{2}})?)?(?!\d){_NO_UNIT}"
)
_DATES = (
    re.compile(_NUMERIC_DATES),
    re.compile(
        rf"\b(?:{_DAY}\s+(?:of\s+)?{_MONTH},?\s+(?:19|2[0-2])\d{{2}}|{_MONTH}\s+{_DAY},?\s+(?:19|2[0-2])\d{{2}}"
        rf"|{_MONTH}\s+(?:19|2[0-2])\d{{2}}|\d{{1,2}}-{_MONTH}-\d{{2,4}})\b",
        re.IGNORECASE,
    ),
    re.compile(
        r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December"
        rf"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.?\s+{_DAY}\b{_NO_UNIT}(?!\.\d)"
    ),
    re.compile(rf"(?<=\bsince )\d{{1,2}}/\d{{1,2}}\b(?![/\d]){_NO_UNIT}", re.IGNORECASE),
    re.compile(rf"(?<=\b(?:from|film|exam|date) )\d{{1,2}}/\d{{1,2}}\b(?![/\d]){_NO_UNIT}", re.IGNORECASE),
    re.compile(rf"(?<=\b(?:dated|study) )\d{{1,2}}/\d{{1,2}}\b(?![/\d]){_NO_UNIT}", re.IGNORECASE),
)
_NUMBERS = (
    re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE),
    re.compile(r"(?<![\w.])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)\s?|\d{3}[ .-])\d{3}[ .-]?\d{4}\b"),
    re.compile(r"(?<![\w.])\+\d{1,3}(?:[ .-]?\d{2,5}){2,4}\b"),
    re.compile(r"(?<![\w.-])\d{3}-\d{4}\b(?!-)"),
    re.compile(r"\b\d{3}-\d{2}-\d{4}\b"),
    re.compile(
        r"(?<=\b(?:pager|phone) )#?\s?[\d-]{3,}|(?<=\bbeeper )#?\s?[\d-]{3,}|(?<=\bext\. )\d{2,6}\b", re.IGNORECASE
    ),
    re.compile(
        r"\b(?:MRN|medical record(?: number| no\.?)?|accession(?: number| no\.?)?|patient id"
        r"|SSN|social security(?: number)?|account(?: number| no\.?)"
        r"|encounter(?: number| no\.?))[\s#:.]*(?=[\w-]*\d)[\w-]+",
        re.IGNORECASE,
    ),
    re.compile(r"\b\d{7,}\b"),
)
_STREET = r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Court|Ct|Highway|Hwy|Parkway|Pkwy)\b\.?"
_ADDRESSES = (
    re.compile(rf"\b\d{{1,5}} (?:[NSEW]\.? )?(?:[A-Z][\w'-]+ ){{1,3}}{_STREET}(?:,? (?:Apt|Suite|Unit|#) ?\w+)?"),
    re.compile(r"\b(?:[A-Z][a-z]+,? )?[A-Z]{2},? \d{5}(?:-\d{4})?\b"),
)
_NAME = r"[A-Z][A-Za-z'’-]*[a-z][A-Za-z'’-]*"
_MIXED = rf"(?:{_NAME}|[A-Z]\.)(?: (?:[A-Z]\.|(?:van|von|de|la|del) )? ?{_NAME}){{0,2}}"
_SPOKEN_OF = (
    re.compile(rf"(?P<kept>\b(?:Dr|DR|Drs|Doctor|Mr|MR|Mrs|Ms|Prof|Professor|Nurse)\.? )(?:{_MIXED}|[A-Z][A-Z'-]+)"),
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
    re.compile(
        r"(?P<kept>\b(?:[Pp]atient(?:'s)? [Nn]ame|PATIENT NAME|Name|NAME) ?: ?)"
        rf"(?:{_MIXED}|[A-Z][A-Z',-]+(?: [A-Z][A-Z'-]+)?)"
    ),
)
_OLD_AGE = re.compile(r"\b(?:9\d|1[01]\d)(?=[ -]?(?:years?|yrs?)[ -]old\b|[ -]?y/?o\b)", re.IGNORECASE)
_LABELED = re.compile(
    r"\b(?P<label>patient(?:'s)? name|date of birth|dob|social security|ssn|home address|next of kin"
    rf"|insurance (?:id|number)) ?(?::|#|=)\s*(?!{MASK})[^\s.]",
    re.IGNORECASE,
)
_NAME_PARTS = re.compile(r"[^\W\d_]{2,}")
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

SHORTEST_MASKED_NAME = 3
"""A shorter part of a name is too like a word or a measure to be masked everywhere."""


def mask_text(text: str, names: Iterable[str] = ()) -> str:
    """Replace what points to a person in report text by ``<deid>``.

    Masked are dates, e-mail and web addresses, telephone, pager and record numbers, digits in runs of seven or more,
    street addresses, ages above 89, names behind a title or a role ("Dr. X", "signed by X"), and every part with at
    least three letters of the given names.

    Args:
        text: Report text.
        names: Names from the tags of the same study, DICOM or plain.
    """
    for pattern in (*_NUMBERS[:2], *_DATES, *_NUMBERS[2:], *_ADDRESSES, _OLD_AGE):
        text = pattern.sub(MASK, text)
    for pattern in _SPOKEN_OF:
        text = pattern.sub(rf"\g<kept>{MASK}", text)
    parts = {part for part in _parts(names) if len(part) >= SHORTEST_MASKED_NAME}
    if parts:
        longest_first = sorted(parts, key=lambda part: (-len(part), part))
        text = re.sub(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", MASK, text, flags=re.IGNORECASE)
    return text


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
    short = [part.capitalize() for part in _parts(names) if len(part) < SHORTEST_MASKED_NAME]
    if any(re.search(rf"(?<![.!?] )(?<!^)(?<!\n)\b{part}\b", text) for part in short):
        raise ReportError("a part of the patient's name may be left in the text; remove it", code="PHI.NAME")


def _parts(names: Iterable[str]) -> set[str]:
    return {part for name in names for part in _NAME_PARTS.findall(name) if part.lower() not in _NO_NAMES}
