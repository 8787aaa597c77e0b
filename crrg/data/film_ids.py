"""Pseudonyms of a film by what it says of itself: its DICOM header, or else its bytes."""

from __future__ import annotations

from typing import NamedTuple

from crrg.data.identity import DicomHeader
from crrg.data.privacy.deidentify import CONTENT_SITE, Pseudonyms


class Ids(NamedTuple):
    """Pseudonyms of an input.

    Attributes:
        patient_id: Of the person.
        study_id: Of the examination.
        instance_id: Of the image object, or of the report where there is none.
    """

    patient_id: str
    study_id: str
    instance_id: str


NONE = Ids("", "", "")
"""Of a film that is gone."""


def ids_of_header(header: DicomHeader, pseudonyms: Pseudonyms) -> Ids:
    """Return the ids of a DICOM film; nothing is checked."""
    return Ids(
        pseudonyms.patient(header.patient_id),
        pseudonyms.study(header.study_instance_uid),
        pseudonyms.instance(header.sop_instance_uid),
    )


def ids_of_content(data_digest: str, pseudonyms: Pseudonyms) -> Ids:
    """Return the ids of a film without header: its bytes are patient, study and instance alike.

    Args:
        data_digest: Hex sha256 of the file.
        pseudonyms: Makes the ids.
    """
    return Ids(
        pseudonyms.patient(data_digest, CONTENT_SITE),
        pseudonyms.study(data_digest, CONTENT_SITE),
        pseudonyms.instance(data_digest, CONTENT_SITE),
    )
