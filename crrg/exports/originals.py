"""Who and what a delivered draft is about: the source film's own identifiers, for the identified zone only.

Read from the source's header at the moment of delivery and dropped afterwards; nothing here is ever stored under the
pseudonymous root, logged, or shown by ``repr``. Only films that a night accepted come here, so the header has passed
the reader's checks; still only a fixed list of tags is taken over.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from typing import TYPE_CHECKING

from crrg.errors import DicomError
from crrg.exports.source_text import first_value, standard_character_set

if TYPE_CHECKING:
    from pydicom import Dataset

COPIED_TAGS = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID",
    "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName", "StudyDescription", "Modality", "Rows", "Columns", "TimezoneOffsetFromUTC",
    "PatientOrientation",
)  # fmt: skip
"""What documents about a film need of it: identity, study, and the size of its pixel matrix."""
_PLACING_TAGS = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyDescription",
)  # fmt: skip
"""What a DICOM object needs to stand in its source's study under its source's patient, beside the study's UID."""
_TEXTS = (
    "PatientID", "PatientName", "IssuerOfPatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName",
    "StudyDescription",
)  # fmt: skip
_SHORT_TEXTS, _SHORT_CHARACTERS = ("AccessionNumber", "StudyID"), 16
_EMPTY_IF_ABSENT = (
    "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
    "ReferringPhysicianName",
)  # fmt: skip
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_SEXES = ("M", "F", "O")
_WAY = re.compile("[APRLHF]{1,3}")
_ZONE = re.compile(r"([+-])(\d\d)([0-5]\d)")
_ZONES = (timedelta(hours=-12), timedelta(hours=14))
_OLD_DATE, _OLD_TIME = re.compile(r"(\d{4})\.(\d{2})\.(\d{2})"), re.compile(r"(\d{2}):(\d{2}):(\d{2}(?:\.\d+)?)")
"""Dates and times as ACR-NEMA wrote them, which readers may accept but no object may carry (PS3.5 section 6.2)."""


@dataclass(frozen=True)
class OriginalFilm:
    """A source film's header, reduced to what a document about it needs.

    Attributes:
        instance_id: Pseudonym under which the draft knows it.
        header: The copied tags; never shown.
        written: Texts among them as the source wrote them; of those that are not here the header's value is taken.
    """

    instance_id: str
    header: Dataset = field(repr=False)
    written: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def reference(self) -> Dataset:
        """What another object refers to this film by: UIDs and size; the identity is blank, ``place`` sets it.

        Libraries that make objects refuse names and character sets which archives hold.
        """
        from pydicom import Dataset

        told = Dataset()
        for name in (*_UIDS, "Modality", "Rows", "Columns"):
            setattr(told, name, self.header.get(name))
        for name in ("PatientID", *_EMPTY_IF_ABSENT):
            setattr(told, name, "")
        return told

    @property
    def zone(self) -> timezone | None:
        """Zone of the source's times; ``None`` where the source does not say it rightly.

        Source: DICOM PS3.3 C.12.1.1.8.
        """
        found = _ZONE.fullmatch(str(self.header.get("TimezoneOffsetFromUTC") or "").strip())
        if found is None or found[0] == "-0000":
            return None
        away = timedelta(hours=int(found[2]), minutes=int(found[3])) * (-1 if found[1] == "-" else 1)
        return timezone(away) if _ZONES[0] <= away <= _ZONES[1] else None

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

    def place(self, dataset: Dataset) -> None:
        """Put a made object into the source's study, under the source's patient and in its character set.

        What the object says itself must be of the default repertoire, which is a part of every other one.
        """
        from pydicom import DataElement, config
        from pydicom.charset import convert_encodings
        from pydicom.datadict import dictionary_VR, tag_for_keyword
        from pydicom.valuerep import PersonName

        character_set = self.header.get("SpecificCharacterSet")
        if character_set:
            dataset.SpecificCharacterSet = character_set
        for name in _PLACING_TAGS:
            if name not in self.header:
                continue
            tag, kind, value = tag_for_keyword(name), dictionary_VR(name), self.header[name].value
            if name in self.written:
                value = self.written[name]
                if kind == "PN":
                    value = PersonName(value, convert_encodings(character_set), validation_mode=config.IGNORE)
            dataset[tag] = DataElement(tag, kind, value, validation_mode=config.IGNORE)
        if self.zone is not None:
            dataset.TimezoneOffsetFromUTC = str(self.header.TimezoneOffsetFromUTC).strip()

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

    A sex, date or time that is not written as the standard asks is left blank, an older form of dates and times is
    rewritten, and of several values the first is taken (of a patient's number all: one alone may be another's): no
    document may carry them, and one such tag must not keep a draft from its study. An accession number or study id that
    is too long for DICOM is blank in DICOM documents.

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
        # the bytes are gone once the reader has decoded them
        written = {name: (source.get_item(name).value or b"").rstrip(b" \0") for name in _TEXTS if name in source}
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
    needed = (*_UIDS, "PatientID", "Rows", "Columns")
    missing = [name for name in needed if not header.get(name)]
    if missing:
        raise DicomError(
            f"the source has no {', '.join(missing)}, without which no document can refer to it",
            instance_id,
            code="IDENTITY.MISSING",
        )
    _standardise(header, written)
    return OriginalFilm(instance_id, header, written)


def _standardise(header: Dataset, written: dict[str, bytes]) -> None:
    """Bring what is not written as the standard asks into a form that documents may carry, or blank it."""
    said = header.get("SpecificCharacterSet") or ""
    character_set = standard_character_set([said] if isinstance(said, str) else said)
    header.SpecificCharacterSet = character_set
    for name in _TEXTS:
        if name not in header or name == "PatientID":
            continue
        if header[name].VM > 1:
            setattr(header, name, header[name].value[0])
        if name in written:
            written[name] = first_value(written[name], character_set)
        if name in _SHORT_TEXTS and len(str(header[name].value or "").strip()) > _SHORT_CHARACTERS:
            written[name] = b""
    for name in ("PatientBirthDate", "StudyDate", "StudyTime"):
        text = str(header[name].value or "").strip()
        found = (_OLD_TIME if name == "StudyTime" else _OLD_DATE).fullmatch(text)
        setattr(header, name, "".join(found.groups()) if found else text)
    for name, is_standard in _standard_forms().items():
        if not is_standard(header[name].value):
            setattr(header, name, "")


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
