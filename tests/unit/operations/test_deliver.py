"""Delivery: right identifiers in the identified zone, nothing identified anywhere else, once in effect."""

from __future__ import annotations

import json

import pydicom
import pytest
from pydicom.filebase import DicomBytesIO

from crrg.domain.labels import LABELS
from crrg.errors import ConfigError, CrrgError, StorageError
from crrg.ledger.audit import read_audit
from crrg.ledger.manifest import manifest_key, read_manifests
from crrg.operations.deliver import deliver
from tests.support.delivered_night import ACCESSION, NAME, NUMBER, STUDY_UIDS, DeliverableNight, film_bytes
from tests.support.drawn_night import StandInDrafter, png_bytes, run_test_night

pytest.importorskip("highdicom", reason="delivery needs the extra dicom")


@pytest.fixture
def night(tmp_path):
    return DeliverableNight(tmp_path)


def datasets(night):
    return [pydicom.dcmread(DicomBytesIO(data)) for key, data in night.delivered().items() if key.endswith(".dcm")]


def test_delivery_is_off_without_an_identified_zone(night):
    with pytest.raises(ConfigError, match="delivery is off"):
        deliver(night.form(), night.root, night.settings.model_copy(update={"identified_root": ""}))


@pytest.mark.parametrize("place", ["inside", "around"])
def test_zone_and_root_must_lie_apart(night, place):
    zone = f"{night.root.root}/identified" if place == "inside" else night.root.root.rpartition("/")[0]
    with pytest.raises(ConfigError, match="within each other"):
        deliver(night.form(), night.root, night.settings.model_copy(update={"identified_root": zone}))


def test_documents_lie_under_the_true_study_with_the_true_identity(night):
    summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_studies, summary.num_delivered, summary.reasons) == (2, 2, {})
    assert {key.split("/")[0] for key in night.delivered()} == set(STUDY_UIDS)
    found = datasets(night)
    assert sorted(each.Modality for each in found) == ["OT", "OT", "OT", "SR", "SR"]
    for each in found:
        assert (each.PatientID, str(each.PatientName), each.AccessionNumber) == (NUMBER, NAME, ACCESSION)
        assert each.StudyInstanceUID in STUDY_UIDS


def test_a_night_that_is_withheld_is_left_out_until_a_person_says_so(night):
    (manifest,) = read_manifests(night.root)
    key = manifest_key(manifest.date, manifest.fencing)
    night.root.put_json(key, {**night.root.get_json(key), "withheld": "is degenerate"})
    night.inbox.put("d/pa.dcm", film_bytes(7, "7", "71"))
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21")
    summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_studies, summary.num_delivered, summary.reasons) == (3, 1, {"WITHHELD.NIGHT": 2})
    assert {key.split("/")[0] for key in night.delivered()} == {"2.25.8.7"}
    summary = deliver(night.form(withheld=True), night.root, night.settings)
    assert (summary.num_delivered, summary.num_unchanged, summary.reasons) == (2, 1, {})
    assert {key.split("/")[0] for key in night.delivered()} == {*STUDY_UIDS, "2.25.8.7"}


def test_structured_report_is_preliminary_and_points_at_its_films(night):
    deliver(night.form(forms=("sr",)), night.root, night.settings)
    report = next(each for each in datasets(night) if each.StudyInstanceUID == "2.25.8.5")
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "PARTIAL", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    cited = {
        each.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for each in series.ReferencedSOPSequence
    }
    assert cited == {"2.25.9.51", "2.25.9.52"}
    measurements = next(
        item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    )
    # 14 observations, and two regions with a sentence on each of two films
    assert len(measurements.ContentSequence) == len(LABELS) + 4


def test_box_is_drawn_in_the_matrix_of_the_source(tmp_path):
    night = DeliverableNight(tmp_path)
    # pixels twice as high as wide: the draft's square pixels are not the source's
    night.inbox.put("d/tall.dcm", film_bytes(9, "7", "71", PixelAspectRatio=["2", "1"]))
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21")
    deliver(night.form(date="2026-11-21", forms=("sr",)), night.root, night.settings)
    (report,) = datasets(night)
    coordinates = [
        list(found.GraphicData)
        for group in next(
            i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010"
        ).ContentSequence
        for found in group.ContentSequence
        if found.ValueType == "SCOORD"
    ]
    assert all(max(each) <= 64 for each in coordinates)
    # the stand-in draws from a tenth of the width and height to half and nine tenths
    assert coordinates[0] == pytest.approx([6.4, 6.4, 32, 6.4, 32, 57.6, 6.4, 57.6, 6.4, 6.4], abs=0.1)


def test_fhir_is_a_preliminary_transaction(night):
    deliver(night.form(forms=("fhir",)), night.root, night.settings)
    bundles = [json.loads(data) for data in night.delivered().values()]
    assert len(bundles) == 2
    for bundle in bundles:
        kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
        assert kinds == ["Device", *["Observation"] * 14, "DiagnosticReport"]
        report = bundle["entry"][-1]["resource"]
        assert report["status"] == "preliminary"
        assert report["conclusion"].startswith("DRAFT - NOT REVIEWED")
        assert report["subject"]["identifier"]["value"] == NUMBER
        assert report["basedOn"][0]["identifier"]["value"] == ACCESSION


def test_second_delivery_changes_nothing_and_a_forced_one_writes_the_same_bytes(night):
    deliver(night.form(), night.root, night.settings)
    first = night.delivered()
    assert deliver(night.form(), night.root, night.settings).num_unchanged == 2
    assert deliver(night.form(again=True), night.root, night.settings).num_delivered == 2
    assert night.delivered() == first


def test_nothing_identified_lies_in_the_root(night):
    deliver(night.form(), night.root, night.settings)
    for stored in night.root.list_objects():
        data = night.root.get(stored.key)
        for marker in (NUMBER, "Sample", ACCESSION, *STUDY_UIDS):
            assert marker.encode() not in data, stored.key
            assert marker not in stored.key


def test_delivery_is_audited_by_pseudonym(night):
    deliver(night.form(), night.root, night.settings)
    entries = [entry for entry in read_audit(night.root) if entry.action != "nightly"]
    assert [entry.action for entry in entries] == ["deliver", "deliver"]
    assert {entry.counts["files"] for entry in entries} == {4, 3}
    assert all(len(entry.subject) == 26 and entry.bundle_id == "b" * 32 for entry in entries)


def test_replaced_missing_and_pictures_are_counted_and_tried_again(night):
    night.inbox.put("e/picture.png", png_bytes(5))
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21")
    kept = night.inbox.get("c/pa.dcm")
    night.inbox.put("c/pa.dcm", film_bytes(30, "6", "61"))
    night.inbox.delete("b/ap.dcm")
    summary = deliver(night.form(), night.root, night.settings)
    assert summary.reasons == {"CHANGED.GONE": 1, "CHANGED.REPLACED": 1, "IDENTITY.NO_DICOM": 1}
    assert night.delivered() == {}
    night.inbox.put("c/pa.dcm", kept)
    assert deliver(night.form(), night.root, night.settings).num_delivered == 1


def test_archive_out_of_reach_leaves_the_delivery_undone(night):
    with pytest.raises(StorageError, match="cannot be reached") as error:
        deliver(night.form(send_to="127.0.0.1:9"), night.root, night.settings)
    assert error.value.retryable
    assert deliver(night.form(), night.root, night.settings).num_delivered == 2


def test_archive_address_is_checked(night):
    with pytest.raises(ConfigError, match="host:port"):
        deliver(night.form(send_to="archive"), night.root, night.settings)


def test_documents_of_a_forgotten_patient_are_withdrawn(night):
    from crrg.data.deidentify import Pseudonyms
    from crrg.operations.forget import forget

    kept = film_bytes(4, "7", "71", PatientID="MRN-0001")
    night.inbox.put("d/pa.dcm", kept)
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21")
    deliver(night.form(), night.root, night.settings)
    patient = Pseudonyms(b"k" * 32).patient(NUMBER)
    elsewhere = night.settings.model_copy(update={"identified_root": ""})
    with pytest.raises(ConfigError, match="documents of 2 studies were delivered"):
        forget([patient], night.root, elsewhere, remove=True)
    assert forget([patient], night.root, night.settings).num_delivered == 2
    assert set(STUDY_UIDS) < {key.split("/")[0] for key in night.delivered()}
    removed = forget([patient], night.root, night.settings, remove=True)
    assert {key.split("/")[0] for key in night.delivered()} == {"2.25.8.7"}
    assert len(night.zone.list_objects("delivered")) == 1
    assert removed.num_withdrawn == 2 + 5 + 2
    assert deliver(night.form(), night.root, night.settings).num_unchanged == 1


def test_an_operator_stops_deliveries(night):
    night.root.put("control/STOP", b"")
    with pytest.raises(CrrgError, match="stopped by an operator, 0 studies are done; remove this object"):
        deliver(night.form(), night.root, night.settings)
    assert night.delivered() == {}
    night.root.delete("control/STOP")
    assert deliver(night.form(forms=("sr",)), night.root, night.settings).num_delivered == 2
