"""Codes, FHIR rules, boxes and identifiers of delivered documents, without a night around them."""

from __future__ import annotations

import base64
import copy
import uuid
from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
from pydicom import Dataset

from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS
from crrg.errors import DataError, DicomError
from crrg.exports.codes import LABEL_CODES, LABEL_CONCEPTS, REGION_CODES, SNOMED, Code, region_site
from crrg.exports.delivered import Delivery
from crrg.exports.dicom_sr import structured_report
from crrg.exports.fhir import check_bundle, fhir_bundle
from crrg.exports.originals import OriginalFilm, read_original
from crrg.exports.secondary_capture import capture_picture, secondary_capture

COMMITTED = datetime(2026, 11, 20, 3, tzinfo=UTC)
VERHOEFF = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def turned(a: int, b: int) -> int:
    """Return the product of two elements of the dihedral group of a pentagon; 5 to 9 are the reflections."""
    turn = (a % 5 + b % 5) % 5 if a < 5 else (a % 5 - b % 5) % 5
    return turn + 5 * ((a >= 5) != (b >= 5))


def verhoeff_holds(number: str) -> bool:
    """Return whether a SNOMED CT identifier's check digit fits."""
    check = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit)
        for _ in range(place % 8):
            value = VERHOEFF[value]
        check = turned(check, value)
    return check == 0


def all_codes() -> list[Code]:
    sites = [code for region in REGIONS for code in region_site(region) if code is not None]
    return [*LABEL_CODES.values(), *LABEL_CONCEPTS.values(), *REGION_CODES.values(), *sites]


def test_check_digits_of_snomed_codes_hold():
    assert verhoeff_holds("36118008")
    assert not verhoeff_holds("36118009")
    assert all(verhoeff_holds(code.value) for code in all_codes() if code.scheme == SNOMED)


def test_codes_that_dicom_lists_mean_the_same_there():
    from pydicom.sr._concepts_dict import concepts

    listed = {
        value: {meaning for meaning, *_ in [entry]}
        for each in concepts["SCT"].values()
        for value, entry in each.items()
    }
    known = [code for code in all_codes() if code.scheme == SNOMED and code.value in listed]
    assert len({code.value for code in known}) >= 15
    meanings = {}
    for each in concepts["SCT"].values():
        for value, entry in each.items():
            meanings.setdefault(value, set()).add(entry[0])
    assert all(code.meaning in meanings[code.value] for code in known)


def test_codes_fit_into_dicom_and_are_told_apart():
    codes = set(all_codes())
    assert all(len(code.value) <= 16 and len(code.scheme) <= 16 and len(code.meaning) <= 64 for code in codes)
    own = [*LABEL_CODES.values(), *REGION_CODES.values()]
    assert len({code.value for code in own}) == len(LABELS) + len(REGIONS)
    assert region_site("right lung")[1].meaning == "Right"
    assert region_site("left hilar structures")[1].meaning == "Left"
    assert region_site("right atrium") == (Code("73829009", SNOMED, "Right atrium"), None)


def header(**tags: object) -> Dataset:
    made = Dataset()
    values = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "SOPInstanceUID": "2.25.9.1", "StudyInstanceUID": "2.25.8.1",
        "SeriesInstanceUID": "2.25.7.1", "PatientID": "P1", "AccessionNumber": "A1", "StudyDate": "20261119",
        "Rows": 1000, "Columns": 500, "PatientName": "", "PatientBirthDate": "", "PatientSex": "", "StudyID": "",
        "StudyTime": "", "ReferringPhysicianName": "",
    }  # fmt: skip
    for name, value in {**values, **tags}.items():
        setattr(made, name, value)
    return made


def document(**changes: object) -> dict[str, object]:
    regions = [
        {"region": region, "box_xyxy": [50.0, 100.0, 250.0, 500.0], "abnormal_probability": 0.1, "phrase": None}
        for region in REGIONS
    ]
    regions[0]["phrase"] = "The lungs are clear."
    film = {"instance_id": "i", "is_primary": True, "width": 500, "height": 500, "regions": regions,
            "flags": [], "view_position": "PA", "findings": "The lungs are clear.", "impression": "Normal.",
            "consistency": 0.9}  # fmt: skip
    return {
        "study_id": "s", "films": [film], "findings": "The lungs are clear.", "impression": "Normal.", "flags": [],
        "probabilities": dict.fromkeys(LABELS, 0.25), "labels": {**dict.fromkeys(LABELS, 0), "No Finding": 1},
        "thresholds": dict.fromkeys(LABELS, 0.5), "bundle_id": "b" * 32, "model_version": "3", **changes,
    }  # fmt: skip


def delivery(**changes: object) -> Delivery:
    return Delivery(document(**changes), {"i": OriginalFilm("i", header())}, COMMITTED)


def test_boxes_return_to_the_matrix_of_the_source():
    # 500 x 500 square pixels of a matrix of 500 columns and 1000 rows
    assert OriginalFilm("i", header()).matrix_box((50, 100, 250, 600), 500, 500) == (50, 200, 250, 1000)


def test_uids_name_one_draft_of_one_study():
    first, changed = delivery(), delivery(impression="Other.")
    assert first.uid("sr") == delivery().uid("sr")
    assert first.uid("sr") != changed.uid("sr")
    assert first.uid("sr") != first.uid("sc")
    assert first.series_uid("sr") == changed.series_uid("sr")
    assert first.uid("sr").startswith("2.25.")
    assert len(first.uid("sr")) <= 64


def test_uids_are_of_the_source_not_of_pseudonyms():
    film = {**document()["films"][0], "instance_id": "other"}
    renamed = Delivery(document(study_id="t", films=[film]), {"other": OriginalFilm("other", header())}, COMMITTED)
    assert renamed.uid("sc", instance_id="other") == delivery().uid("sc", instance_id="i")
    assert fhir_bundle(renamed) == fhir_bundle(delivery())


def test_labels_at_their_threshold_become_conclusions():
    report = fhir_bundle(delivery())["entry"][-1]["resource"]
    assert [each["text"] for each in report["conclusionCode"]] == ["No Finding (draft)"]
    assert report["effectiveDateTime"] == "2026-11-19"
    assert report["imagingStudy"][0]["identifier"]["value"] == "urn:oid:2.25.8.1"
    observation = fhir_bundle(delivery())["entry"][1]["resource"]
    assert observation["interpretation"][0]["coding"][0]["code"] == "NEG"
    assert observation["valueQuantity"]["value"] == 0.25


def test_documents_name_the_models_of_every_film():
    first = {**document()["films"][0], "bundle_id": "a" * 32, "model_version": "2"}
    second = {**first, "instance_id": "j", "is_primary": False, "bundle_id": "b" * 32, "model_version": "3"}
    originals = {"i": OriginalFilm("i", header()), "j": OriginalFilm("j", header(SOPInstanceUID="2.25.9.2"))}
    mixed = document(films=[first, second], bundle_id="a" * 32, model_version="2")
    made = Delivery(mixed, originals, COMMITTED)
    device = fhir_bundle(made)["entry"][0]["resource"]
    assert [each["value"] for each in device["identifier"]] == ["a" * 32, "b" * 32]
    assert [each["value"] for each in device["version"]] == ["2", "3"]
    report = structured_report(made)
    assert list(report.SoftwareVersions) == ["2", "3"]
    groups = next(i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    versions = [
        item.TextValue
        for group in groups.ContentSequence
        for item in group.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Algorithm Version"
    ]
    assert versions == ["2, 3"] * len(LABELS) + ["2", "3"]
    captures = [secondary_capture(made, film, np.full((500, 500), 90, np.uint8)) for film in (first, second)]
    assert [(each.SoftwareVersions, each.DeviceSerialNumber[0]) for each in captures] == [("2", "a"), ("3", "b")]
    assert list(structured_report(delivery()).SoftwareVersions) == ["3"]


def broken(path: list[object], value: object) -> dict[str, object]:
    bundle = copy.deepcopy(fhir_bundle(delivery()))
    target = bundle
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return bundle


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["entry", 15, "resource", "status"], "final", "DiagnosticReport.status must be preliminary"),
        (["entry", 1, "resource", "status"], "bogus", "Observation.status"),
        (["entry", 15, "resource", "conclusion"], "", "conclusion is missing"),
        (["entry", 15, "resource", "result", 0, "reference"], "Observation/none", "not in the Bundle"),
        (["entry", 1, "resource", "code", "coding", 0, "system"], "http://elsewhere", "system"),
        (["entry", 1, "resource", "interpretation", 0, "coding", 0, "code"], "MAYBE", "POS nor NEG"),
        (["entry", 0, "resource", "id"], "not allowed", "Device.id"),
        (["entry", 0, "fullUrl"], "Device/1", "not a urn:uuid"),
        (["entry", 15, "resource", "effectiveDateTime"], "2026-13-99", "effectiveDateTime"),
        (["entry", 1, "resource", "effectiveDateTime"], "20261119", "effectiveDateTime"),
        (["entry", 15, "resource", "issued"], "2026-11-20T03:00:00", "issued"),
        (["type"], "collection", "transaction"),
    ],
)
def test_documents_that_break_a_rule_are_not_delivered(path, value, message):
    with pytest.raises(DataError, match=message) as error:
        check_bundle(broken(path, value))
    assert error.value.code == "DOCUMENT.INVALID"


def test_resources_refer_to_each_other_by_absolute_addresses():
    entries = fhir_bundle(delivery())["entry"]
    urls = [entry["fullUrl"] for entry in entries]
    assert all(uuid.UUID(url).urn == url for url in urls)
    report = entries[-1]["resource"]
    assert [each["reference"] for each in report["result"]] == urls[1:15]
    assert {entry["resource"]["device"]["reference"] for entry in entries[1:15]} == {urls[0]}


def test_ids_are_ones_that_a_server_lets_a_client_choose():
    # servers keep ids of digits alone for themselves: https://github.com/hapifhir/hapi-fhir/issues/333
    entries = fhir_bundle(delivery())["entry"]
    ids = [entry["resource"]["id"] for entry in entries]
    assert [f"urn:uuid:{each}" for each in ids] == [entry["fullUrl"] for entry in entries]
    assert not any(each.isdecimal() for each in ids)


@pytest.mark.parametrize("day", ["", "20261399", "2026.11.19", "20260229"])
def test_a_day_that_the_film_does_not_say_is_not_made_up(day):
    made = Delivery(document(), {"i": OriginalFilm("i", header(StudyDate=day))}, COMMITTED)
    assert [entry["resource"].get("effectiveDateTime") for entry in fhir_bundle(made)["entry"]] == [None] * 16


def test_films_that_differ_about_no_finding_are_no_conclusion():
    labels = {**dict.fromkeys(LABELS, 0), "Pleural Effusion": 1}
    probabilities = {**dict.fromkeys(LABELS, 0.1), "Pleural Effusion": 0.9, "No Finding": 0.8}
    made = delivery(labels=labels, probabilities=probabilities)
    *_, nothing, report = (entry["resource"] for entry in fhir_bundle(made)["entry"])
    assert [each["text"] for each in report["conclusionCode"]] == ["Pleural Effusion (draft)"]
    assert nothing["interpretation"][0]["coding"][0]["code"] == "NEG"
    assert nothing["referenceRange"] == [{"text": "positive at or above 0.5000 on every film"}]
    groups = next(
        item
        for item in structured_report(made).ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    ).ContentSequence
    sides = [sum(item.ValueType == "CODE" and "threshold" in item.ConceptNameCodeSequence[0].CodeMeaning
                 for item in group.ContentSequence) for group in groups[: len(LABELS)]]  # fmt: skip
    assert sides == [1] * 13 + [0]


def test_a_draft_without_impression_is_told_by_its_findings(monkeypatch):
    film = {**document()["films"][0], "impression": ""}
    made = delivery(impression="", films=[film])
    report = fhir_bundle(made)["entry"][-1]["resource"]
    assert report["conclusion"] == "DRAFT - NOT REVIEWED BY A RADIOLOGIST. The lungs are clear."
    text = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    assert "FINDINGS\nThe lungs are clear.\n\nIMPRESSION\n(no conclusion drafted; see findings)\n" in text
    written = []
    monkeypatch.setattr(cv2, "putText", lambda _canvas, said, *_: written.append(said))
    assert secondary_capture(made, film, np.full((50, 50), 90, np.uint8)).Rows > 0
    assert written[written.index("IMPRESSION") + 1] == "(no conclusion drafted; see findings)"


def test_every_form_says_that_it_is_a_draft_and_not_for_diagnosis():
    made = delivery()
    image = secondary_capture(made, made.document["films"][0], np.full((50, 50), 90, np.uint8))
    for form in (image, structured_report(made)):
        assert form.SeriesDescription == "CRRG-CLIP draft - not reviewed by a radiologist"
    assert image.ImageComments == "DRAFT - NOT REVIEWED BY A RADIOLOGIST. Machine-made; not for diagnosis."
    device, *observations, report = (entry["resource"] for entry in fhir_bundle(made)["entry"])
    assert "Not for diagnosis without a radiologist." in device["note"][0]["text"]
    assert {each["note"][0]["text"] for each in observations} == {"DRAFT - NOT REVIEWED BY A RADIOLOGIST"}
    assert report["conclusion"].startswith("DRAFT - NOT REVIEWED BY A RADIOLOGIST. ")
    text = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    assert "Not for diagnosis without a radiologist." in " ".join(text.split())


def test_capture_says_draft_and_shows_the_film():
    pixels = np.full((500, 500), 90, np.uint8)
    chosen = document()
    picture = capture_picture(chosen, chosen["films"][0], pixels)
    assert picture.shape == (980, 900 + 560, 3)
    assert tuple(picture[5, 5]) == (255, 176, 0)
    assert tuple(picture[975, 5]) == (255, 176, 0)
    assert tuple(picture[800, 800]) == (90, 90, 90)
    # the box of the one sentence, at 50..250 of 500 pixels shown on 900
    assert tuple(picture[40 + 180, 200]) == (100, 170, 255)
    chosen["films"][0]["regions"] = [{**each, "is_abnormal": True} for each in chosen["films"][0]["regions"]]
    assert tuple(capture_picture(chosen, chosen["films"][0], pixels)[40 + 180, 200]) == (255, 176, 0)


@pytest.mark.parametrize(
    ("said", "kept"),
    [(["L", "F"], ["L", "F"]), (["R", "F"], ["R", "F"]), (None, None), (["LEFT", "F"], None), ("L", None)],
)
def test_capture_lies_as_its_source_says_and_says_nothing_where_that_does_not(said, kept):
    tags = {} if said is None else {"PatientOrientation": said}
    made = Delivery(document(), {"i": OriginalFilm("i", header(**tags))}, COMMITTED)
    image = secondary_capture(made, made.document["films"][0], np.full((50, 50), 90, np.uint8))
    assert (image.PatientOrientation or None) == kept


@pytest.mark.parametrize(
    ("data", "code"), [(b"no dicom at all", "IDENTITY.MISSING"), (b"\0" * 128 + b"DICM", "IDENTITY.MISSING")]
)
def test_source_without_identity_is_refused(data, code):
    with pytest.raises(DicomError) as error:
        read_original(data, "i")
    assert error.value.code == code
