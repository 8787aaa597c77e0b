"""By which words a DICOM file names its study, read from the beginning of the file.

Reports of a hospital name a study by its accession number or UID, so what a report says of a film is only known when
the film's header is. Reads a few kilobytes and no pixels; whether the identifiers are legal is checked with the film.
"""

from __future__ import annotations

import io
import warnings
import zlib
from dataclasses import dataclass, field

from crrg.data.dicom.structure import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE, find_data_set, looks_like_dicom
from crrg.errors import DataError, StorageError
from crrg.storage import Storage

HEAD_BYTES = 2**16
LONG_HEAD_BYTES = 2**22
"""Read where the first bytes do not reach the study."""
_TAGS = ("AccessionNumber", "PatientID", "SOPInstanceUID", "StudyInstanceUID")
_LAST_TAG = 0x0020000D


@dataclass(frozen=True)
class StudyWords:
    """Identifiers of a film's study, not yet checked; empty where the file has none, or they stand too far in it.

    Attributes:
        patient_id: PatientID.
        accession_number: AccessionNumber.
        study_instance_uid: StudyInstanceUID.
        sop_instance_uid: SOPInstanceUID, of the film itself.
    """

    patient_id: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)
    study_instance_uid: str = field(default="", repr=False)
    sop_instance_uid: str = field(default="", repr=False)


def read_study_words(head: bytes) -> StudyWords:
    """Return the identifiers of a film's study; all empty where the file is not DICOM or is damaged.

    Args:
        head: The beginning of the file.
    """
    if not looks_like_dicom(head):
        return StudyWords()
    # an ingest whose reports name films starts without a DICOM library in this process
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag

    from crrg.data.dicom.header import identifier_of, text_value

    try:
        start, syntax = find_data_set(head)
        body = head[start:]
        if syntax == DEFLATED:
            body = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, LONG_HEAD_BYTES)
        with warnings.catch_warnings():
            # pydicom's warnings quote values
            warnings.simplefilter("ignore")
            attributes = read_dataset(
                io.BytesIO(body),
                is_implicit_VR=syntax == IMPLICIT_LITTLE,
                is_little_endian=syntax != EXPLICIT_BIG,
                stop_when=lambda tag, _vr, _length: tag > _LAST_TAG,
                specific_tags=[Tag(name) for name in _TAGS],
            )
            return StudyWords(
                patient_id=identifier_of(attributes, "PatientID"),
                accession_number=text_value(attributes, "AccessionNumber"),
                study_instance_uid=identifier_of(attributes, "StudyInstanceUID"),
                sop_instance_uid=identifier_of(attributes, "SOPInstanceUID"),
            )
    except (DataError, zlib.error, EOFError, ValueError, KeyError, NotImplementedError, RecursionError, OSError):
        return StudyWords()


def find_study_words(storage: Storage, key: str, size: int, head: bytes = b"") -> StudyWords:
    """Return the identifiers of the study of a film that lies in a store, reading no more of it than needed.

    Args:
        storage: Where it lies.
        key: Its key there.
        size: Its bytes.
        head: Its beginning, if it was read already.
    """
    head = head or read_head(storage, key, size)
    words = read_study_words(head)
    if not looks_like_dicom(head) or words.study_instance_uid or size <= len(head):
        return words
    # large elements of a vendor may stand before the study
    return read_study_words(read_head(storage, key, size, LONG_HEAD_BYTES))


def read_head(storage: Storage, key: str, size: int, num_bytes: int = HEAD_BYTES) -> bytes:
    """Return the beginning of an object; nothing where it is gone or not given out, which reading it as a whole tells.

    Raises:
        StorageError: The store is out of reach.
    """
    try:
        return storage.get_range(key, 0, min(size, num_bytes)) if size else b""
    except StorageError as error:
        if error.retryable and not storage.is_local:
            raise
        return b""
