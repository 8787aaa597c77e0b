"""Documents carry a source's identity as it was written, and in no form that the standard does not know."""

from __future__ import annotations

import warnings

import pytest

from crrg.exports.fhir import fhir_bundle
from crrg.exports.originals import read_original
from crrg.exports.source_text import first_value, standard_character_set
from tests.support.delivered_night import film_bytes
from tests.support.drawn_delivery import drawn_delivery, drawn_document, stored_objects
from tests.support.source_names import NAMES, STANDARD, named_film

pytest.importorskip("highdicom", reason="delivery needs the extra dicom")


def objects_of(data, **changes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of what these sources hold
        return stored_objects(drawn_delivery({"i": read_original(data, "i")}, **changes))


def odd_film(**tags):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of what this test writes
        return film_bytes(1, "5", "51", **tags)


@pytest.mark.parametrize("character_set", NAMES, ids="\\".join)
def test_a_name_keeps_its_bytes_in_every_character_set(character_set):
    name = NAMES[character_set]
    for each in objects_of(named_film(character_set)):
        assert each.get_item("PatientName").value.rstrip(b" ") == name
        said = each.get("SpecificCharacterSet")
        written = () if said is None else (said,) if isinstance(said, str) else tuple(said)
        assert written == STANDARD.get(character_set, character_set)


@pytest.mark.parametrize(
    ("said", "standard"),
    [
        (["iso ir 100"], ["ISO_IR 100"]),
        (["ISO_IR 6", "ISO 2022-IR 87 "], ["", "ISO 2022 IR 87"]),
        (["", ""], []),
        (["ISO 2022 IR 6"], []),
        (["ISO 2022 IR 13"], ["ISO_IR 13"]),
        (["LATIN1"], ["LATIN1"]),
    ],
)
def test_character_sets_are_named_as_the_standard_does(said, standard):
    assert standard_character_set(said) == standard


@pytest.mark.parametrize(
    ("data", "character_set", "first"),
    [
        (b"A^B\\C^D", [], b"A^B"),
        (b"", [], b""),
        (b"\\B", [], b""),
        # half of these characters is a backslash
        (b"A=\x1b$B$\\$\\\x1b(B\\B", ["", "ISO 2022 IR 87"], b"A=\x1b$B$\\$\\\x1b(B"),
        (b"\x81\\^\x95\\\\B", ["GB18030"], b"\x81\\^\x95\\"),
        ("é\\B".encode(), ["ISO_IR 192"], "é".encode()),
        (b"\xb1\xe6\\B", ["", "ISO 2022 IR 149"], b"\xb1\xe6"),
    ],
)
def test_the_first_value_ends_at_a_backslash_that_is_no_part_of_a_character(data, character_set, first):
    assert first_value(data, character_set) == first


def test_of_several_names_and_accession_numbers_the_first_is_taken():
    data = odd_film(PatientName=["A^B", "C^D"], AccessionNumber=["A1", "A2"], StudyID=["1", "2"])
    for each in objects_of(data):
        assert (str(each.PatientName), each.AccessionNumber, each.StudyID) == ("A^B", "A1", "1")
    report = fhir_bundle(drawn_delivery({"i": read_original(data, "i")}))["entry"][-1]["resource"]
    assert report["basedOn"][0]["identifier"]["value"] == "A1"


def test_a_number_that_is_too_long_for_dicom_stands_in_fhir_alone():
    data = odd_film(AccessionNumber="X" * 17, StudyID="Y" * 17)
    for each in objects_of(data):
        assert (each.AccessionNumber, each.StudyID) == ("", "")
    report = fhir_bundle(drawn_delivery({"i": read_original(data, "i")}))["entry"][-1]["resource"]
    assert report["basedOn"][0]["identifier"]["value"] == "X" * 17
    assert all(each.AccessionNumber == "X" * 16 for each in objects_of(odd_film(AccessionNumber="X" * 16)))


@pytest.mark.parametrize(("number", "said"), [("  007 ", "007"), (["A", "B"], "A\\B")])
def test_a_patient_number_is_whole_and_without_padding_in_fhir(number, said):
    data = odd_film(PatientID=number, IssuerOfPatientID=" HOSP ")
    identifier = fhir_bundle(drawn_delivery({"i": read_original(data, "i")}))["entry"][-1]["resource"]["subject"]
    assert identifier["identifier"]["value"] == said
    assert identifier["identifier"]["assigner"] == {"display": "HOSP"}


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        ({"StudyDate": "2026.11.19", "StudyTime": "10:15:00.5"}, ("20261119", "101500.5")),
        ({"StudyDate": "2026.13.19", "StudyTime": "10:75:00"}, ("", "")),
        ({"StudyDate": "20261119", "StudyTime": "1015"}, ("20261119", "1015")),
        ({"StudyDate": "2026", "StudyTime": "1015-1100"}, ("", "")),
    ],
)
def test_days_and_times_of_an_older_form_are_rewritten_and_of_no_form_left_out(tags, kept):
    data = odd_film(**tags)
    for each in objects_of(data):
        assert (each.StudyDate or "", each.StudyTime or "") == kept
    report = fhir_bundle(drawn_delivery({"i": read_original(data, "i")}))["entry"][-1]["resource"]
    assert report.get("effectiveDateTime") == ("2026-11-19" if kept[0] else None)


def test_every_object_of_a_study_says_the_same_of_patient_and_study():
    for each in objects_of(odd_film(IssuerOfPatientID="HOSP-A", StudyDescription="Chest PA")):
        assert (each.IssuerOfPatientID, each.StudyDescription) == ("HOSP-A", "Chest PA")
    assert not any("StudyDescription" in each for each in objects_of(odd_film()))


def test_sentences_are_of_the_repertoire_that_every_character_set_has():
    report, *_ = objects_of(odd_film(), document=drawn_document("i", phrase="Opacity of 3 – 4 cm, café."))
    texts = [item.get("TextValue") for item in walked(report)]
    assert "right lung: Opacity of 3 - 4 cm, cafe." in texts


def walked(dataset):
    """Yield every item of a data set's sequences."""
    for element in dataset:
        for item in element.value if element.VR == "SQ" else ():
            yield item
            yield from walked(item)
