"""Who a film belongs to, as its source says, on the short way from decoding to pseudonymisation.

Light on purpose: processes that only pass these values on import no DICOM library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from crrg.errors import IdentityError

MAX_IDENTIFIER_CHARACTERS = 64
SEARCHED_BYTES = 1 << 16
"""Where a file's identifiers stand; what describes its pixels comes after them."""
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_SAMPLES_PER_PIXEL = b"\x28\x00\x02\x00"
_NAMED_STUDY = re.compile(rb"\x20\x00\x0d\x00(?:UI[\x01-\x40]\x00|[\x01-\x40]\x00\x00\x00)([0-9.]+)")


@dataclass(frozen=True)
class DicomHeader:
    """Identifiers and names of a DICOM file; never stored, never shown by ``repr``.

    Attributes:
        patient_id: PatientID; empty if absent.
        study_instance_uid: StudyInstanceUID; empty if absent.
        sop_instance_uid: SOPInstanceUID; empty if absent.
        names: Names of people in the tags, to be masked in the report of the same study.
    """

    patient_id: str = field(repr=False)
    study_instance_uid: str = field(repr=False)
    sop_instance_uid: str = field(repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)


def check_identity(header: DicomHeader) -> None:
    """Refuse a film whose patient, study or instance cannot be told.

    Raises:
        IdentityError: IDENTITY.MISSING or IDENTITY.INVALID.
    """
    if not header.patient_id:
        raise IdentityError("PatientID is missing; give it in the report table", code="IDENTITY.MISSING")
    if len(header.patient_id) > MAX_IDENTIFIER_CHARACTERS or not header.patient_id.isprintable():
        raise IdentityError("PatientID is too long or contains control characters", code="IDENTITY.INVALID")
    if "\\" in header.patient_id:
        reason = (
            "PatientID contains a backslash, which separates values in DICOM; send the film with an id that has none"
        )
        raise IdentityError(reason, code="IDENTITY.INVALID")
    for name, uid in (("StudyInstanceUID", header.study_instance_uid), ("SOPInstanceUID", header.sop_instance_uid)):
        if not uid:
            raise IdentityError(f"{name} is missing", code="IDENTITY.MISSING")
        if len(uid) > MAX_IDENTIFIER_CHARACTERS or not _UID.fullmatch(uid):
            raise IdentityError(f"{name} is not a valid UID", code="IDENTITY.INVALID")


def find_study_uid(data: bytes) -> str:
    """Return the StudyInstanceUID that a DICOM file shows, however damaged, unchecked; empty where none is found.

    Nothing is parsed: the bytes before those of the picture's description are looked through for the element, little
    endian. Of several the last one counts, as sequences of other studies come before it.
    """
    end = data.find(_SAMPLES_PER_PIXEL, 0, SEARCHED_BYTES)
    found = _NAMED_STUDY.findall(data, 0, SEARCHED_BYTES if end < 0 else end)
    return found[-1].decode()[:MAX_IDENTIFIER_CHARACTERS] if found else ""
