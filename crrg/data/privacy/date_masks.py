"""Masks for dates in report text: all parts but a bare year, in the languages that an ingest can let in.

Measurements, fractions, vertebral levels and times of day stay. A day and a month alone ("3/12") are a date only behind
a word that announces one, since they look like a fraction.

Source: 45 CFR 164.514 (b)(2)(i)(C).
"""

from __future__ import annotations

import re

_YEAR = r"(?:1[89]|2\d)\d{2}"
_MONTHS = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_FULL_MONTHS = (
    "January|February|March|April|May|June|July|August|September|October|November|December"
    "|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
)
_OTHER_MONTHS_LIST = """
    januar jänner januari januára february februar februari februára märz maart mart marts mars april avril abril
    aprile nisan mai mei maj maio mayo maggio mayıs juni juin junio junho giugno haziran juli juillet julio julho
    luglio temmuz august augusti augustus août agosto ağustos september septembre septiembre setembro settembre
    eylül oktober octobre octubre outubro ottobre ekim november novembre noviembre novembro kasım dezember decembre
    décembre diciembre dezembro dicembre december desember aralık janvier enero janeiro gennaio ocak février febrero
    fevereiro febbraio şubat marzo março января февраля марта апреля мая июня июля августа сентября октября ноября
    декабря січня лютого березня квітня травня червня липня серпня вересня жовтня листопада грудня ιανουαρίου
    φεβρουαρίου μαρτίου απριλίου μαΐου ιουνίου ιουλίου αυγούστου σεπτεμβρίου οκτωβρίου νοεμβρίου δεκεμβρίου
"""
_OTHER_MONTHS = "|".join(_OTHER_MONTHS_LIST.split())
"""Months of other languages than English that can be let in."""
_DAY = r"\d{1,2}(?:st|nd|rd|th|er|º|°|\.)?"
_NO_UNIT = r"(?!\s*(?:cm|mm|ml|cc|%|x\b|of\b|images?\b|levels?\b))"
_ANNOUNCED = (
    r"\b(?:since|dated|from|film|study|exam|examination|date|prior|previous|compared (?:to|with)|comparison(?: is)?:?"
    r"|(?:study|film|exam|examination|radiographs?|x-?rays?|ct|prior|comparison) (?:of|from|on)) "
)
_NUMERIC = (
    rf"\b(?:\d{{1,2}}(?P<separator>[/.-])\d{{1,2}}(?P=separator)(?:\d{{2}})?\d{{2}}"
    rf"|{_YEAR}(?P<other>[/.-])\d{{1,2}}(?P=other)\d{{1,2}})(?:T\d{{2}}:\d{{2}}(?::\d{{2}})?)?(?!\d){_NO_UNIT}"
)
_DATES = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        (rf"(?P<kept>){_NUMERIC}", re.NOFLAG),
        (r"(?P<kept>)\d{4}\s?[年년]\s?\d{1,2}\s?[月월](?:\s?\d{1,2}\s?[日일])?", re.NOFLAG),
        (
            rf"(?P<kept>)\b(?:{_DAY}\s*(?:of\s+)?{_MONTHS},?\s*{_YEAR}|{_MONTHS}\s+{_DAY},?\s+{_YEAR}|{_MONTHS}\s+{_YEAR}"
            rf"|\d{{1,2}}-{_MONTHS}-\d{{2,4}})\b",
            re.IGNORECASE,
        ),
        (
            rf"(?P<kept>)\b{_DAY}\s+(?:de\s+|d')?(?:{_OTHER_MONTHS})\b\.?(?:,?\s+(?:del?\s+)?{_YEAR}\b)?",
            re.IGNORECASE,
        ),
        (rf"(?P<kept>)\b(?:{_OTHER_MONTHS})\.?\s+(?:del?\s+)?{_YEAR}\b", re.IGNORECASE),
        (rf"(?P<kept>)\b(?:{_FULL_MONTHS})\.?\s+\d{{1,2}}(?:st|nd|rd|th)?\b{_NO_UNIT}(?!\.\d)", re.NOFLAG),
        (rf"(?P<kept>)\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?(?:{_FULL_MONTHS})\b(?!-)", re.NOFLAG),
        (rf"(?P<kept>)\b(?:0?[1-9]|1[0-2])[/.]{_YEAR}\b|\b{_YEAR}[/.](?:0?[1-9]|1[0-2])\b(?![/.]\d)", re.NOFLAG),
        (rf"(?P<kept>{_ANNOUNCED})\d{{1,2}}/\d{{1,2}}\b(?![/\d]){_NO_UNIT}", re.IGNORECASE),
    )
)


def mask_dates(text: str, mask: str) -> str:
    """Replace dates by a mask; a bare year stays.

    Args:
        text: Report text.
        mask: What stands in place of a date.
    """
    for pattern in _DATES:
        text = pattern.sub(lambda match: f"{match['kept'] or ''}{mask}", text)
    return text
