"""Sex, age and maker as headers and tables write them, brought down to the few words that are kept.

One rule for all archives. What comes in may say anything; what goes out is a word of ``crrg.domain.acquisition`` or
nothing.

Source: DICOM PS3.5 6.2 (value representation AS), PS3.3 C.7.1.1 and C.7.5.1.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from crrg.domain.acquisition import AGE_BANDS, Acquisition

MAX_AGE_YEARS = 120
"""What is older is a slip of the keyboard (148 and 155 in RSNA's challenge)."""
_BAND_STARTS = (0, 16, 40, 60, 80)
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_BARE_AGE = re.compile(r"(\d{1,3}(?:\.\d+)?)\+?")
_YEARS_PER_UNIT = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_SEXES = {"F": "F", "FEMALE": "F", "M": "M", "MALE": "M"}
_MAKERS = (
    (re.compile(r"\bAGFA"), "agfa"),
    (re.compile(r"\bCANON"), "canon"),
    # Kodak's radiographs became Carestream's
    (re.compile(r"\b(?:CARESTREAM|KODAK)"), "carestream"),
    (re.compile(r"\bFUJI"), "fujifilm"),
    (re.compile(r"\b(?:GE|GEMS|GEHC|GENERAL ELECTRIC)\b"), "ge"),
    (re.compile(r"\b(?:HOLOGIC|LORAD)"), "hologic"),
    (re.compile(r"\b(?:KONICA|MINOLTA)"), "konica_minolta"),
    (re.compile(r"\bPHILIPS"), "philips"),
    (re.compile(r"\bSAMSUNG"), "samsung"),
    (re.compile(r"\bSHIMADZU"), "shimadzu"),
    (re.compile(r"\bSIEMENS"), "siemens"),
    (re.compile(r"\bSWISSRAY"), "swissray"),
    (re.compile(r"\bTOSHIBA"), "toshiba"),
)
"""Beginnings of a maker's name, first match wins."""


def acquisition_of_words(*, sex: str = "", age: str = "", manufacturer: str = "") -> Acquisition:
    """Return what some words say.

    Args:
        sex: ``F``, ``Female`` and the like.
        age: A DICOM age (``045Y``, ``006M``) or a number of years.
        manufacturer: Name of the maker, as devices write it.
    """
    return Acquisition(_SEXES.get(sex.strip().upper()), age_band_of_words(age), manufacturer_of_words(manufacturer))


def age_years(text: str) -> float | None:
    """Return a DICOM age in years; ``None`` for anything but a number with its unit."""
    match = _AGE.fullmatch(text.strip().upper())
    return int(match.group(1)) * _YEARS_PER_UNIT[match.group(2)] if match else None


def age_band_of_words(text: str) -> str | None:
    """Return the band of an age.

    Args:
        text: A DICOM age, or a number: years. A bare 0 stands for an unknown age in tables.
    """
    years = age_years(text)
    if years is None and (match := _BARE_AGE.fullmatch(text.strip())):
        years = float(match.group(1)) or None
    if years is None or years > MAX_AGE_YEARS:
        return None
    return AGE_BANDS[bisect_right(_BAND_STARTS, years) - 1]


def manufacturer_of_words(text: str) -> str | None:
    """Return the maker that a name means: ``other`` where none of the list does, ``None`` where nobody is named."""
    if not any(character.isalnum() for character in text):
        return None
    return next((name for pattern, name in _MAKERS if pattern.search(text.upper())), "other")
