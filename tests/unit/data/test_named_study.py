"""What study a DICOM file names is found by its bytes, wherever they are whole, and never by parsing."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from crrg.data.identity import SEARCHED_BYTES, find_study_uid
from tests.support.dicom_builder import build_dicom

UID = "1.2.840.113619.2.5"


def related_series() -> list[Dataset]:
    other = Dataset()
    other.StudyInstanceUID = "2.25.999"
    return [other]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("uid", [UID, UID + "7", "2.25." + "3" * 59])
def test_it_is_found_in_whole_and_cut_files(syntax, uid):
    data = build_dicom(syntax=syntax, StudyInstanceUID=uid)
    assert find_study_uid(data) == uid
    assert find_study_uid(data[: len(data) // 2]) == uid


def test_of_other_studies_that_are_named_before_and_after_its_own_none_is_taken():
    others = {"RelatedSeriesSequence": related_series(), "RequestAttributesSequence": related_series()}
    assert find_study_uid(build_dicom(StudyInstanceUID=UID, **others)) == UID


@pytest.mark.parametrize("data", [b"", b"garbage" * 50, b"\x20\x00\x0d\x00UI", b"\x20\x00\x0d\x00UI\x06\x00abcdef"])
def test_nothing_is_found_where_there_is_none(data):
    assert find_study_uid(data) == ""


def test_only_the_front_of_a_file_is_looked_through():
    element = b"\x20\x00\x0d\x00UI\x04\x001.23"
    assert find_study_uid(bytes(SEARCHED_BYTES - 20) + element) == "1.23"
    assert find_study_uid(bytes(SEARCHED_BYTES) + element) == ""
