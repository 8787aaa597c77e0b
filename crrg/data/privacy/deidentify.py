"""Pseudonyms for identifiers.

A pseudonym is keyed: without the secret it can neither be computed nor reversed by trying all numbers. Patient, study
and instance have domains of their own, so that equal source values give unlike pseudonyms. Knows no source and no
text; what a report says of a person is masked in ``person_masks``.

Source: 45 CFR 164.514 (b)(2) and (c); DICOM PS3.15 annex E.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac

from crrg.config.base import Settings
from crrg.errors import DataError

PSEUDONYM_CHARACTERS = 26
MAX_SHIFT_DAYS = 730
CONTENT_SITE = "content"
"""Where digests of files are valid as identifiers, in place of what a header would say."""


class Pseudonyms:
    """Turns identifiers of a source into pseudonyms with one secret key.

    Attributes:
        earlier: The same with the secret before, where this process was given it: patients who were forgotten under it
            are told by it.
    """

    def __init__(self, key: bytes, earlier: Pseudonyms | None = None) -> None:
        """Keep the secret; see ``pseudonyms_of`` for where it comes from.

        Args:
            key: At least 32 bytes.
            earlier: Of another secret, which this one took the place of.
        """
        self._key, self.earlier = key, earlier

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

    def counted_study(self, study_uid: str) -> str:
        """Return what a study of which something was refused is counted by; it is not the study's pseudonym."""
        return self._pseudonym("counted-study", "", study_uid)

    def tombstone(self, patient_id: str) -> str:
        """Return what is kept of a forgotten patient: a pseudonym of the pseudonym, which leads back to neither.

        Args:
            patient_id: Pseudonym of the person.
        """
        return self._pseudonym("forgotten", "", patient_id)

    def delivery(self, value: str) -> str:
        """Return what names a delivery in the identified zone, where no pseudonym may lie beside an identifier.

        Args:
            value: Pseudonym of the study, or that and which delivery of it.
        """
        return self._pseudonym("delivery", "", value)

    def shift_date(self, day: datetime.date, patient: str, site: str = "") -> datetime.date:
        """Return a date moved back by the patient's own number of days, so that order and intervals stay.

        No table of a dataset or a night holds a date of an examination, and dates in reports are masked; whoever has to
        keep one keeps this.

        Args:
            day: Date of an examination or a birth.
            patient: The source's identifier of the person.
            site: Where the identifier is valid.

        Returns:
            A date 1 to 730 days earlier, by the same number for every date of a person.

        Raises:
            DataError: PARSE.DATE where there is no such earlier date.
        """
        message = b"\0".join(part.encode() for part in ("date-shift", site, patient))
        number = int.from_bytes(hmac.new(self._key, message, hashlib.sha256).digest()[:8], "big")
        try:
            return day - datetime.timedelta(days=1 + number % MAX_SHIFT_DAYS)
        except OverflowError as error:
            raise DataError("the date lies before the calendar; leave it out", code="PARSE.DATE") from error

    def _pseudonym(self, domain: str, site: str, value: str) -> str:
        message = b"\0".join(part.encode("utf-8", "surrogatepass") for part in (domain, site, value))
        digest = hmac.digest(self._key, message, "sha256")
        return base64.b32encode(digest)[:PSEUDONYM_CHARACTERS].decode().lower()


def pseudonyms_of(settings: Settings) -> Pseudonyms:
    """Return what makes pseudonyms with the secret of settings, and tells who was forgotten under the one before.

    Raises:
        ConfigError: There is no secret, or it, or the one before where that is given, cannot be used.
    """
    key = settings.pseudonym_key()
    old_key = settings.old_pseudonym_key() if settings.has_old_pseudonym_key else key
    return Pseudonyms(key, Pseudonyms(old_key) if old_key != key else None)
