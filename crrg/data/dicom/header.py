"""The attributes of a radiograph that are read at all, and the rules by which it is refused before decoding.

An allow-list: what is not named here is never read. Order of the rules: kind of object, modality, body part, burned-in
text, then geometry and bits. Knows no pixels; ``dicom.pixels`` decodes, ``dicom.display`` makes white dense.

Source: DICOM PS3.3 C.7.6.3 (image pixel module), C.8.1, C.8.11 (CR and DX modules).
"""

from __future__ import annotations

import io
import logging
import math
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from crrg.data.acquisition_words import acquisition_of_words, age_years
from crrg.data.codestream import check_pixel_limit
from crrg.data.dicom.structure import PIXEL_GROUP, DicomBody
from crrg.data.identity import DicomHeader
from crrg.data.privacy.name_spellings import readings_of_names
from crrg.data.view_words import view_of_words
from crrg.domain.acquisition import OWN_MANUFACTURER, Acquisition
from crrg.domain.study import ViewPosition
from crrg.errors import DicomError

# pydicom quotes values in its remarks: they must reach neither a log nor a terminal
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
"""SOP class of digital radiographs that were not yet prepared for viewing."""
SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    FOR_PROCESSING: "DX",
    "1.2.840.10008.5.1.4.1.1.7": "SC",
    "1.2.840.10008.5.1.4.1.1.7.2": "SC",
    "1.2.840.10008.5.1.4.1.1.7.3": "SC",
    "1.2.840.10008.5.1.4.1.1.7.4": "SC",
}
"""Accepted SOP classes: computed and digital radiography, for presentation and for processing; secondary capture."""
_MODALITIES = {"CR": ("CR", "DX"), "DX": ("CR", "DX"), "SC": ("CR", "DX", "RG", "OT", "")}
_CHEST = ("CHEST", "THORAX", "LUNG", "TORAX", "TÓRAX", "TORACE")
"""Parts of the words for a body part that hold the chest; some devices translate the defined terms."""
_VIEW_MEANINGS = (
    ("postero-anterior", ViewPosition.PA),
    ("posteroanterior", ViewPosition.PA),
    ("posterior-anterior", ViewPosition.PA),
    ("antero-posterior", ViewPosition.AP),
    ("anteroposterior", ViewPosition.AP),
    ("anterior-posterior", ViewPosition.AP),
    ("left lateral", ViewPosition.LL),
    ("lateral", ViewPosition.LATERAL),
    ("oblique", ViewPosition.LATERAL),
)
"""Words in the meaning of a view code, first match wins."""
PHOTOMETRICS = frozenset(
    ["MONOCHROME1", "MONOCHROME2", "RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"]
)
PAEDIATRIC_YEARS = 16
MAX_FRAMES = 10_000
MAX_ASPECT = 10.0
_NAME_TAGS = (
    "PatientName",
    "OtherPatientNames",
    "PatientBirthName",
    "PatientMotherBirthName",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "NameOfPhysiciansReadingStudy",
    "RequestingPhysician",
)
_IDENTITY_TAGS = ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "AccessionNumber")
_PICTURE_TAGS = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "Modality",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "ViewPosition",
    "ViewCodeSequence",
    "PresentationIntentType",
    "PixelIntensityRelationshipSign",
    "PresentationLUTShape",
    "BurnedInAnnotation",
    "PatientAge",
    "PatientSex",
    "Manufacturer",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "PixelAspectRatio",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
)
_ALLOWED_TAGS: list[Any] = [*_PICTURE_TAGS, *_IDENTITY_TAGS, *_NAME_TAGS]


@dataclass(frozen=True)
class PixelLayout:
    """How stored values lie in the pixel data.

    Attributes:
        rows: Pixels.
        columns: Pixels.
        samples: Samples per pixel, 1 or 3.
        is_planar: Whether colours lie plane by plane.
        photometric: Photometric interpretation.
        bits_allocated: 8 or 16.
        bits_stored: Bits that carry a value.
        shift: Unused low bits, other than 0 only in files from before 1998.
        is_signed: Whether values are two's complement.
    """

    rows: int
    columns: int
    samples: int
    is_planar: bool
    photometric: str
    bits_allocated: int
    bits_stored: int
    shift: int
    is_signed: bool

    @property
    def num_bytes(self) -> int:
        """Bytes of the picture when it is not compressed."""
        if self.photometric == "YBR_FULL_422":
            return self.rows * self.columns * 2
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


def read_attributes(body: DicomBody) -> Dataset:
    """Read the allowed attributes of a data set, pixel data left out.

    Raises:
        DicomError: PARSE.HEADER where the reader fails.
    """
    stream = io.BytesIO(body.data)
    stream.seek(body.start)
    try:
        return read_dataset(
            stream,
            is_implicit_VR=body.is_implicit,
            is_little_endian=body.is_little,
            stop_when=lambda tag, _vr, _length: tag.group >= PIXEL_GROUP,
            specific_tags=[pydicom.tag.Tag(name) for name in _ALLOWED_TAGS],
        )
    except RecursionError as error:
        raise DicomError("sequences are nested too deeply", code="LIMIT.DEPTH") from error
    except Exception as error:
        raise DicomError(f"the header cannot be read ({type(error).__name__})", code="PARSE.HEADER") from error


def read_identity(attributes: Dataset) -> DicomHeader:
    """Collect identifiers and names; nothing is checked here."""
    names = [name for tag in _NAME_TAGS for name in _names(attributes, tag)]
    return DicomHeader(
        patient_id=identifier_of(attributes, "PatientID"),
        study_instance_uid=identifier_of(attributes, "StudyInstanceUID"),
        sop_instance_uid=identifier_of(attributes, "SOPInstanceUID"),
        names=tuple(dict.fromkeys(name for name in names if name.strip("^= "))),
    )


def read_acquisition(attributes: Dataset) -> Acquisition:
    """Return sex, age band and maker; of what stands in the header only the words of our lists go on from here."""
    return acquisition_of_words(
        sex=text_value(attributes, "PatientSex"),
        age=text_value(attributes, "PatientAge"),
        manufacturer=text_value(attributes, "Manufacturer"),
    )


def check_scope(attributes: Dataset) -> tuple[str, ...]:
    """Refuse what is no chest radiograph, and what shows a name or one of our own drafts.

    Returns:
        Flags: ``body_part_unknown``, ``view_unknown``, ``age_unknown``, ``paediatric``.

    Raises:
        DicomError: SOP_CLASS, MODALITY, BODY_PART or PHI.
    """
    kind = SOP_CLASSES.get(text_value(attributes, "SOPClassUID"))
    if kind is None:
        raise DicomError("the object is not a projection radiograph", code="SOP_CLASS.NOT_A_RADIOGRAPH")
    if kind == "SC" and text_value(attributes, "Manufacturer") == OWN_MANUFACTURER:
        raise DicomError("the object is a draft that this program delivered", code="SOP_CLASS.OWN_CAPTURE")
    modality = text_value(attributes, "Modality").upper()
    if modality not in _MODALITIES[kind]:
        raise DicomError("the modality does not fit a projection radiograph", code="MODALITY.NOT_A_RADIOGRAPH")
    flags = []
    body_part = text_value(attributes, "BodyPartExamined").upper() or _meaning(attributes, "AnatomicRegionSequence")
    if not body_part:
        flags.append("body_part_unknown")
    elif not any(word in body_part.upper() for word in _CHEST):
        raise DicomError("the body part is not the chest", code="BODY_PART.NOT_CHEST")
    if text_value(attributes, "BurnedInAnnotation").upper() == "YES":
        raise DicomError("the header says that text is burned into the picture", code="PHI.BURNED_IN")
    if read_view(attributes) is ViewPosition.UNKNOWN:
        flags.append("view_unknown")
    years = age_years(text_value(attributes, "PatientAge"))
    if years is None:
        flags.append("age_unknown")
    elif years < PAEDIATRIC_YEARS:
        flags.append("paediatric")
    return tuple(flags)


def read_view(attributes: Dataset) -> ViewPosition:
    """Return the projection; a code, where no words are given, by its meaning."""
    view = view_of_words(text_value(attributes, "ViewPosition"))
    if view is not None and view is not ViewPosition.UNKNOWN:
        return view
    meaning = _meaning(attributes, "ViewCodeSequence").lower()
    return next((view for words, view in _VIEW_MEANINGS if words in meaning), ViewPosition.UNKNOWN)


def read_layout(attributes: Dataset, body: DicomBody) -> PixelLayout:
    """Check geometry and bits against each other and against the pixel data's length.

    Raises:
        DicomError: NO_PIXELS, FLOAT, MULTIFRAME, GEOMETRY, LIMIT, PHOTOMETRIC or BITS.
    """
    _check_pixel_element(attributes, body)
    rows, columns = (_size(attributes, name) for name in ("Rows", "Columns"))
    check_pixel_limit(columns, rows)
    photometric = text_value(attributes, "PhotometricInterpretation").upper()
    if photometric not in PHOTOMETRICS:
        raise DicomError("the photometric interpretation is missing or not supported", code="PHOTOMETRIC.UNSUPPORTED")
    samples = int_value(attributes, "SamplesPerPixel", 1)
    if samples != (1 if photometric.startswith("MONO") or photometric.startswith("PAL") else 3):
        raise DicomError("samples per pixel do not fit the photometric interpretation", code="PHOTOMETRIC.SAMPLES")
    allocated = int_value(attributes, "BitsAllocated", 0)
    stored = int_value(attributes, "BitsStored", allocated)
    high = int_value(attributes, "HighBit", stored - 1)
    sign = int_value(attributes, "PixelRepresentation", 0)
    legal = allocated in (8, 16) and 1 < stored <= allocated and stored - 1 <= high < allocated and sign in (0, 1)
    if not legal or (samples == 3 and allocated != 8) or (photometric.startswith("PAL") and stored != allocated):
        raise DicomError(f"bits allocated {allocated}, stored {stored}, high bit {high}", code="BITS.UNSUPPORTED")
    layout = PixelLayout(
        rows=rows,
        columns=columns,
        samples=samples,
        is_planar=samples == 3 and int_value(attributes, "PlanarConfiguration", 0) == 1,
        photometric=photometric,
        bits_allocated=allocated,
        bits_stored=stored,
        shift=high - stored + 1,
        is_signed=sign == 1,
    )
    if body.pixel_length >= 0 and not layout.num_bytes <= body.pixel_length <= layout.num_bytes + layout.num_bytes % 2:
        raise DicomError(
            f"pixel data has {body.pixel_length} bytes, {rows} x {columns} pixels need {layout.num_bytes}",
            code="GEOMETRY.PIXEL_DATA",
        )
    return layout


def read_spacing(attributes: Dataset) -> tuple[tuple[float, float] | None, float]:
    """Return row and column spacing in mm, ``None`` if unknown, and the height of a pixel over its width.

    Raises:
        DicomError: GEOMETRY.ASPECT where pixels are more than ten times as high as wide, or the reverse.
    """
    spacing: tuple[float, float] | None = None
    aspect = 1.0
    for name in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        values = float_values(attributes, name)
        if len(values) == 2 and min(values) > 0:
            aspect = values[0] / values[1]
            spacing = None if name == "PixelAspectRatio" else (values[0], values[1])
            break
    if not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        raise DicomError(f"a pixel is {aspect:.3g} times as high as wide", code="GEOMETRY.ASPECT")
    return spacing, aspect


def text_value(attributes: Dataset, name: str) -> str:
    """Return an attribute as text without padding; empty if absent, the first of several."""
    values = _values(attributes.get(name))
    return str(values[0]).strip(" \0") if values else ""


def int_value(attributes: Dataset, name: str, default: int) -> int:
    """Return an attribute as a whole number, the default where it is absent, -1 where it is no number."""
    values = _values(attributes.get(name))
    if not values:
        return default
    try:
        return int(values[0])
    except (TypeError, ValueError):
        return -1


def float_values(attributes: Dataset, name: str) -> list[float]:
    """Return an attribute's finite numbers; an empty list where one of them is no number."""
    try:
        numbers = [float(value) for value in _values(attributes.get(name))]
    except (TypeError, ValueError):
        return []
    return numbers if all(math.isfinite(number) for number in numbers) else []


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    if isinstance(value, pydicom.multival.MultiValue | list | tuple):
        return [item for item in value if item not in (None, "")]
    return [value]


def identifier_of(attributes: Dataset, name: str) -> str:
    """Return an identifier as a whole, several values as they were written: the first alone may be another's."""
    return "\\".join(str(value).strip(" \0") for value in _values(attributes.get(name)))


def _names(attributes: Dataset, tag: str) -> list[str]:
    """Return the names of a tag, and what else its bytes may stand for."""
    element = attributes.get_item(tag)
    # the bytes are gone once the reader has decoded them
    raw = element.value if isinstance(element, RawDataElement) else None
    return readings_of_names([str(value) for value in _values(attributes.get(tag))], raw)


def _meaning(attributes: Dataset, name: str) -> str:
    """Return what the first code of a sequence means; empty where there is none."""
    sequence = attributes.get(name)
    return text_value(sequence[0], "CodeMeaning") if sequence else ""


def _check_pixel_element(attributes: Dataset, body: DicomBody) -> None:
    if body.pixel_tags & {0x7FE00008, 0x7FE00009}:
        raise DicomError("pixels are floating-point numbers", code="FLOAT.PIXEL_DATA")
    if body.pixel_start < 0 or body.pixel_length == 0 or (body.pixel_length < 0 and not body.fragments):
        raise DicomError("there is no pixel data", code="NO_PIXELS.ABSENT")
    frames = int_value(attributes, "NumberOfFrames", 1)
    if frames > MAX_FRAMES:
        raise DicomError(f"{frames} frames; only files with up to {MAX_FRAMES} are examined", code="LIMIT.FRAMES")
    if frames not in (0, 1):
        raise DicomError("more than one frame", code="MULTIFRAME.FRAMES")


def _size(attributes: Dataset, name: str) -> int:
    number = int_value(attributes, name, 0)
    if name not in attributes or attributes[name].VR != "US" or attributes[name].VM != 1 or number <= 0:
        raise DicomError(f"{name} is missing, zero or not a 16-bit number", code="GEOMETRY.SIZE")
    return number
