"""Only allowed attributes leave the header reader, whatever else a header holds."""

from __future__ import annotations

import io
import json

import pydicom
import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from crrg.data.decoding.child import _describe
from crrg.data.dicom.header import _ALLOWED_TAGS, read_attributes, read_identity
from crrg.data.dicom.structure import open_dicom
from crrg.data.film import read_film
from tests.support.drawn_night import dicom_bytes

CANARY = "CANARYxQ7"
LENGTHS = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "LT": 64, "ST": 64, "UT": 64, "UC": 64, "UR": 64, "PN": 64}
ALLOWED = {int(pydicom.tag.Tag(name)) for name in _ALLOWED_TAGS}


def item() -> Dataset:
    """Return a sequence item with text in every text element that an item may hold, two levels deep."""
    inner = Dataset()
    inner.PatientComments = CANARY
    inner.add_new(0x00091001, "LO", CANARY)
    outer = Dataset()
    outer.LUTExplanation = CANARY
    outer.CodeMeaning = CANARY
    outer.RequestAttributesSequence = Sequence([inner])
    return outer


@pytest.fixture(scope="module")
def marked() -> bytes:
    film = pydicom.dcmread(io.BytesIO(dicom_bytes(1)))
    for tag in DicomDictionary:
        vr = dictionary_VR(tag)
        if tag >> 16 in (0x0000, 0x0002, 0x7FE0, 0xFFFE, 0xFFFA) or tag in ALLOWED or "or" in vr:
            continue
        if vr in LENGTHS:
            film.add_new(tag, vr, CANARY[: LENGTHS[vr]])
        elif vr == "SQ":
            film.add_new(tag, vr, Sequence([item()]))
    for group in (0x0009, 0x0029, 0x0051):
        film.add_new(group << 16 | 0x10, "LO", CANARY)
        film.add_new(group << 16 | 0x1001, "UT", CANARY)
    film.VOILUTSequence = Sequence([item()])
    film.PatientName, film.PatientID = f"{CANARY}^NAME", f"{CANARY}-ID"
    film.Manufacturer, film.PatientSex, film.PatientAge = f"{CANARY} Siemens", CANARY, CANARY[:4]
    film.preamble = CANARY.encode().ljust(128, b"\0")
    buffer = io.BytesIO()
    film.save_as(buffer)
    return buffer.getvalue()


def test_thousands_of_elements_are_marked(marked):
    assert marked.count(CANARY.encode()) > 2000


def test_the_reader_returns_allowed_elements_only(marked):
    attributes = read_attributes(open_dicom(marked))
    assert {int(element.tag) for element in attributes} <= ALLOWED


def test_a_film_carries_no_marker_but_in_its_hidden_identity(marked):
    decoded = read_film(marked, 64)
    described = _describe(decoded)
    identity = described.pop("header")
    assert CANARY not in json.dumps(described)
    assert described["acquisition"] == {"sex": None, "age_band": None, "manufacturer": "siemens"}
    assert CANARY in json.dumps(identity)
    assert CANARY not in repr(decoded)


def test_names_are_known_for_masking_and_for_nothing_else(marked):
    header = read_identity(read_attributes(open_dicom(marked)))
    assert header.names == (f"{CANARY}^NAME",)
    assert CANARY not in repr(header)
