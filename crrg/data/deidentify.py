"""Pseudonyms for identifiers, and masks for what a report may say of a person.

A pseudonym is keyed: without the secret it can neither be computed nor reversed by trying all numbers. Patient, study
and instance have domains of their own, so that equal source values give unlike pseudonyms. Knows no source.

Source: 45 CFR 164.514 (b)(2) and (c); DICOM PS3.15 annex E.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable

PSEUDONYM_CHARACTERS = 26
MASK = "<deid>"

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    rf"\b(?:\d{{1,4}}[/.-]\d{{1,2}}[/.-]\d{{2,4}}|\d{{1,2}}(?:st|nd|rd|th)?\s+{_MONTH},?\s+(?:19|20)\d{{2}}"
    rf"|{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+(?:19|20)\d{{2}}|{_MONTH}\s+(?:19|20)\d{{2}})\b",
    re.IGNORECASE,
)
_PHONE = re.compile(r"(?<!\w)(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)\s?|\d{3}[ .-])\d{3}[ .-]?\d{4}\b")
_RECORD_NUMBER = re.compile(r"\b(?:MRN|medical record(?: number)?|accession(?: number)?|patient id)\b[\s#:.]*\w+", re.I)
_LONG_NUMBER = re.compile(r"\b\d{7,}\b")
_NAME_PARTS = re.compile(r"[^\W\d_]{3,}")
_NO_NAMES = frozenset(
    [
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
    ]
)
"""Words that stand in name fields without being names."""


class Pseudonyms:
    """Turns identifiers of a source into pseudonyms with one secret key."""

    def __init__(self, key: bytes) -> None:
        """Keep the secret; see ``Settings.pseudonym_key`` for where it comes from.

        Args:
            key: At least 32 bytes.
        """
        self._key = key

    def __repr__(self) -> str:
        """Show which key it is, never the key."""
        return f"Pseudonyms({self.key_id})"

    @property
    def key_id(self) -> str:
        """Eight hex digits by which two keys are told apart; stands in datasets and manifests."""
        return hmac.new(self._key, b"key-id", hashlib.sha256).hexdigest()[:8]

    def patient(self, value: str, site: str = "") -> str:
        """Return the pseudonym of a person.

        Args:
            value: The source's identifier.
            site: Where it is valid; empty for DICOM identifiers.

        Returns:
            26 lower-case letters and digits.
        """
        return self._pseudonym("patient", site, value)

    def study(self, value: str, site: str = "") -> str:
        """Return the pseudonym of an examination; see ``patient``."""
        return self._pseudonym("study", site, value)

    def instance(self, value: str, site: str = "") -> str:
        """Return the pseudonym of an image object; see ``patient``."""
        return self._pseudonym("instance", site, value)

    def object_key(self, value: str, site: str = "") -> str:
        """Return the pseudonym of a store key, under which a refused object is recorded; see ``patient``."""
        return self._pseudonym("object", site, value)

    def _pseudonym(self, domain: str, site: str, value: str) -> str:
        message = b"\0".join(part.encode() for part in (domain, site, value))
        digest = hmac.new(self._key, message, hashlib.sha256).digest()
        return base64.b32encode(digest)[:PSEUDONYM_CHARACTERS].decode().lower()


def mask_text(text: str, names: Iterable[str] = ()) -> str:
    """Replace what points to a person in report text by ``<deid>``.

    Masked are dates, telephone and record numbers, digits in runs of seven or more, and every part with at least three
    letters of the given names.

    Args:
        text: Report text.
        names: Names from the tags of the same study, DICOM or plain.
    """
    for pattern in (_DATE, _PHONE, _RECORD_NUMBER, _LONG_NUMBER):
        text = pattern.sub(MASK, text)
    parts = {part for name in names for part in _NAME_PARTS.findall(name) if part.lower() not in _NO_NAMES}
    if parts:
        longest_first = sorted(parts, key=lambda part: (-len(part), part))
        text = re.sub(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", MASK, text, flags=re.IGNORECASE)
    return text
