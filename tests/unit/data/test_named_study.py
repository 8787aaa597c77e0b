"""What study a refused file names is found by its bytes, wherever they are whole, and never by parsing."""

from __future__ import annotations

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from crrg.data.film import read_film
from crrg.data.identity import SEARCHED_BYTES, find_study_uid
from crrg.errors import DataError
from tests.support.dicom_builder import build_dicom

UID = "1.2.840.113619.2.5"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("uid", [UID, UID + "7", "2.25." + "3" * 59])
def test_it_is_found_in_whole_and_cut_files(syntax, uid):
    data = build_dicom(syntax=syntax, StudyInstanceUID=uid)
    assert find_study_uid(data) == uid
    with pytest.raises(DataError) as refused:
        read_film(data[:-300], 64)
    assert refused.value.study_uid == uid
    assert uid not in str(refused.value)


@pytest.mark.parametrize("data", [b"", b"garbage" * 50, b"\x20\x00\x0d\x00UI", b"\x20\x00\x0d\x00UI\x06\x00abcdef"])
def test_nothing_is_found_where_there_is_none(data):
    assert find_study_uid(data) == ""


def test_only_the_front_of_a_file_is_looked_through():
    element = b"\x20\x00\x0d\x00UI\x04\x001.23"
    assert find_study_uid(bytes(SEARCHED_BYTES - 20) + element) == "1.23"
    assert find_study_uid(bytes(SEARCHED_BYTES) + element) == ""
