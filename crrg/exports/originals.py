"""Who and what a delivered draft is about: the source film's own identifiers, for the identified zone only.

Read from the source's header at the moment of delivery and dropped afterwards; nothing here is ever stored under the
pseudonymous root, logged, or shown by ``repr``. Only films that a night accepted come here, so the header has passed
the reader's checks; still only a fixed list of tags is taken over.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crrg.errors import DicomError

if TYPE_CHECKING:
    from pydicom import Dataset

COPIED_TAGS = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID",
    "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName", "StudyDescription", "Modality", "Rows", "Columns", "TimezoneOffsetFromUTC",
    "PatientOrientation",
)  # fmt: skip
"""What documents about a film need of it: identity, study, and the size of its pixel matrix."""
_EMPTY_IF_ABSENT = (
    "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
    "ReferringPhysicianName",
)  # fmt: skip
_SEXES = ("M", "F", "O")
_WAY = re.compile("[APRLHF]{1,3}")


@dataclass(frozen=True)
class OriginalFilm:
    """A source film's header, reduced to what a document about it needs.

    Attributes:
        instance_id: Pseudonym under which the draft knows it.
        header: The copied tags; never shown.
    """

    instance_id: str
    header: Dataset = field(repr=False)

    @property
    def orientation(self) -> list[str]:
        """PatientOrientation of the source: where its rows and columns run to; empty where it does not say it rightly.

        Source: DICOM PS3.3 C.7.6.1.1.1.
        """
        said = self.header.get("PatientOrientation")
        ways = [] if not said or isinstance(said, str) else [str(way) for way in said]
        return ways if len(ways) == 2 and all(_WAY.fullmatch(way) for way in ways) else []

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID of the source."""
        return str(self.header.StudyInstanceUID)

    def matrix_box(self, box_xyxy: tuple[float, ...], width: int, height: int) -> tuple[float, ...]:
        """Return a box in the columns and rows of the source's pixel matrix.

        Args:
            box_xyxy: Box in the square pixels of the draft, ``[x1, y1, x2, y2]``.
            width: Width in those pixels.
            height: Height in those pixels.

        Returns:
            ``(x1, y1, x2, y2)``, clipped to the matrix; the two differ where the source's pixels are not square.
        """
        across, down = int(self.header.Columns) / width, int(self.header.Rows) / height
        limits = (int(self.header.Columns), int(self.header.Rows)) * 2
        scaled = (value * scale for value, scale in zip(box_xyxy, (across, down) * 2, strict=True))
        return tuple(min(max(value, 0.0), float(limit)) for value, limit in zip(scaled, limits, strict=True))


def read_original(data: bytes, instance_id: str) -> OriginalFilm:
    """Read the tags of a source film that documents about it need.

    A sex, date or time that is not written as the standard asks is left blank: no document may carry it, and one such
    tag must not keep a draft from its study.

    Args:
        data: The whole DICOM file.
        instance_id: Pseudonym of the image, for messages.

    Raises:
        DicomError: NOT_DICOM.HEADER where it is none, IDENTITY.MISSING where it names no study or instance.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        source = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True, specific_tags=list(COPIED_TAGS))
        header = pydicom.Dataset()
        for name in COPIED_TAGS:
            if name in source:
                header[name] = source[name]
    except (InvalidDicomError, ValueError, KeyError, TypeError, AttributeError, OSError, EOFError) as error:
        raise DicomError(
            f"the source's header cannot be read ({type(error).__name__})", instance_id, code="NOT_DICOM.HEADER"
        ) from None
    for name in _EMPTY_IF_ABSENT:
        if name not in header:
            setattr(header, name, "")
    needed = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Rows", "Columns")
    missing = [name for name in needed if not header.get(name)]
    if missing:
        raise DicomError(
            f"the source has no {', '.join(missing)}, without which no document can refer to it",
            instance_id,
            code="IDENTITY.MISSING",
        )
    for name, is_standard in _standard_forms().items():
        if not is_standard(header[name].value):
            setattr(header, name, "")
    return OriginalFilm(instance_id, header)


def _standard_forms() -> dict[str, Callable[[object], bool]]:
    """Return tags whose values documents may carry in one form only, each with what tells that form.

    Source: DICOM PS3.5 section 6.2 (DA, TM), PS3.3 C.7.1.1 (Patient's Sex).
    """
    from pydicom.valuerep import DA, TM

    def holds(made: Callable[[str], object]) -> Callable[[object], bool]:
        def is_of_form(value: object) -> bool:
            try:
                made(str(value or ""))
            except (ValueError, TypeError, OverflowError):
                return False
            return True

        return is_of_form

    return {
        "PatientSex": lambda value: value in ("", None, *_SEXES),
        **dict.fromkeys(("PatientBirthDate", "StudyDate"), holds(DA)),
        "StudyTime": holds(TM),
    }
