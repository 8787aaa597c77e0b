"""Delivery: right identifiers in the identified zone, nothing identified anywhere else, once in effect."""

from __future__ import annotations

import base64
import json
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.filebase import DicomBytesIO

from crrg.checked_json import checked_json
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.labels import LABELS
from crrg.errors import ConfigError, CrrgError, StorageError
from crrg.ledger.audit import read_audit
from crrg.ledger.manifest import manifest_key, read_manifests
from crrg.operations.delivery import deliver as delivery
from crrg.operations.delivery.deliver import deliver
from crrg.operations.delivery.dicom_send import REFUSED
from crrg.operations.privacy.forget import forget
from crrg.operations.privacy.rekey import rekey
from crrg.operations.summaries import delivery_markdown
from crrg.storage import Storage
from tests.support.canaries import find_markers
from tests.support.delivered_night import ACCESSION, NAME, NUMBER, STUDY_UIDS, DeliverableNight, film_bytes
from tests.support.drawn_night import StandInDrafter, png_bytes, run_test_night
from tests.support.keys import KEY, NEW_KEY

pytest.importorskip("highdicom", reason="delivery needs the extra dicom")


@pytest.fixture
def night(tmp_path):
    return DeliverableNight(tmp_path)


def datasets(night):
    return [pydicom.dcmread(DicomBytesIO(data)) for key, data in night.delivered().items() if key.endswith(".dcm")]


def test_delivery_is_off_without_an_identified_zone(night):
    with pytest.raises(ConfigError, match="delivery is off"):
        deliver(night.form(), night.root, night.settings.model_copy(update={"identified_root": ""}))


def test_what_no_night_drafted_is_said(night, caplog):
    summary = deliver(night.form(date="2020-01-01", studies=("nonsense", "x")), night.root, night.settings)
    assert summary.num_studies == 0
    first, second = summary.not_found
    assert first.startswith("no night of 2020-01-01 was committed")
    assert second.startswith("2 of 2 ids belong to no draft; ")
    for said in summary.not_found:
        assert said in caplog.text
        assert f"Not delivered: {said}." in delivery_markdown(summary)
    assert deliver(night.form(), night.root, night.settings).not_found == ()


@pytest.mark.parametrize("place", ["inside", "around"])
def test_zone_and_root_must_lie_apart(night, place):
    zone = f"{night.root.root}/identified" if place == "inside" else night.root.root.rpartition("/")[0]
    with pytest.raises(ConfigError, match="nested in each other"):
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
    night.root.put(key, checked_json({**night.root.get_json(key), "withheld": "is degenerate"}))
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
    assert deliver(night.form(), night.root, night.settings).num_delivered == 2
    uids = {f"study {place}": uid for place, uid in enumerate(STUDY_UIDS)}
    markers = {"number": NUMBER, "name": "Sample", "accession": ACCESSION, **uids}
    assert {hit.split(" (")[0] for hit in find_markers(Path(night.zone.root), markers)} == markers.keys()
    assert any(path.suffix == ".parquet" for path in Path(night.root.root).rglob("*"))
    assert find_markers(Path(night.root.root), markers) == []


def test_delivery_is_audited_by_pseudonym(night):
    deliver(night.form(), night.root, night.settings)
    entries = [entry for entry in read_audit(night.root) if entry.action != "nightly"]
    assert [entry.action for entry in entries] == ["deliver", "deliver"]
    assert {entry.counts["files"] for entry in entries} == {4, 3}
    assert all(len(entry.subject) == 26 and entry.bundle_id == "b" * 32 for entry in entries)


@pytest.mark.parametrize(("owner", "step"), [(Storage, "put"), (delivery, "send_objects")])
def test_what_a_delivery_may_have_written_or_sent_before_it_was_cut_off_is_known_to_a_removal(
    night, monkeypatch, owner, step
):
    def cut(*_, **__):
        raise StorageError("it broke off", retryable=True)

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, cut)
        with pytest.raises(StorageError):
            deliver(night.form(send_to="archive:104"), night.root, night.settings, is_typed=True)
    (entry,) = [entry for entry in read_audit(night.root) if entry.action == "deliver"]
    assert entry.counts["sent"] == entry.counts["files"] - 1
    with pytest.raises(ConfigError, match="documents of 1 studies were delivered"):
        forget([entry.subject], night.root, night.settings.model_copy(update={"identified_root": ""}), remove=True)
    assert forget([entry.subject], night.root, night.settings, remove=True).num_sent == entry.counts["sent"]
    assert night.delivered() == {}


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
    kept = film_bytes(4, "7", "71", PatientID="MRN-0001")
    night.inbox.put("d/pa.dcm", kept)
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21")
    deliver(night.form(), night.root, night.settings)
    patient = Pseudonyms(KEY.encode()).patient(NUMBER)
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


def test_tags_that_are_not_of_the_standard_are_left_blank_and_keep_no_draft_back(night, caplog):
    odd = {"PatientSex": "W", "PatientBirthDate": "19501301", "StudyDate": "20261399", "StudyTime": "noon"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of what this test writes
        night.inbox.put("a/pa.dcm", film_bytes(7, "7", "71", PatientName="Sample", **odd))
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-19")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one that comes through would print a name
        summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (3, {})
    found = [each for each in datasets(night) if each.StudyInstanceUID == "2.25.8.7"]
    assert len(found) == 2
    assert {str(each[name].value or "") for each in found for name in odd} == {""}
    (data,) = [data for key, data in night.delivered().items() if key.startswith("2.25.8.7/") and key.endswith(".json")]
    assert b"effectiveDateTime" not in data
    assert "Sample" not in caplog.text


def test_a_study_of_which_no_document_can_be_made_keeps_no_other_back(night, monkeypatch):
    made = delivery.structured_report

    def fails(asked):
        if asked.primary.study_uid == "2.25.8.5":
            raise ValueError(NAME)
        return made(asked)

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "structured_report", fails)
        summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (1, {"DOCUMENT.FAILED": 1})
    assert deliver(night.form(), night.root, night.settings).num_delivered == 1


def test_a_document_that_was_damaged_keeps_no_other_back(night):
    (manifest,) = read_manifests(night.root)
    key = min(key for key in night.root.get_json(manifest.index_key) if key.endswith("/report.json"))
    whole = night.root.get(key)
    night.root.put(key, b"{}")
    summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (1, {"INTEGRITY.DIGEST": 1})
    night.root.put(key, whole)
    assert deliver(night.form(), night.root, night.settings).num_delivered == 1


def test_a_refusal_is_about_its_study_and_an_archive_that_is_away_about_all(night, monkeypatch):
    def refuses(objects, _archive, **_):
        if objects[0].StudyInstanceUID == "2.25.8.5":
            raise StorageError("the archive refused an object", code=REFUSED)
        return len(objects)

    def is_away(*_, **__):
        raise StorageError("the archive cannot be reached", retryable=True)

    form = night.form(send_to="archive:104")
    settings = night.settings.model_copy(update={"archives": ("archive:104",)})
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "send_objects", refuses)
        summary = deliver(form, night.root, settings)
        assert (summary.num_delivered, summary.num_objects_sent, summary.reasons) == (1, 2, {REFUSED: 1})
        # what of it the archive may have taken is known to a later removal
        assert {entry.counts["sent"] for entry in read_audit(night.root) if entry.action == "deliver"} == {2, 3}
        patch.setattr(delivery, "send_objects", is_away)
        with pytest.raises(StorageError, match="cannot be reached"):
            deliver(form, night.root, settings)
        patch.setattr(delivery, "send_objects", lambda objects, *_, **__: len(objects))
        assert deliver(form, night.root, settings).num_delivered == 1


def test_a_night_of_an_earlier_date_that_was_run_later_is_delivered(night):
    """Its draft also shows films that the night of the later date read first."""
    night.inbox.put("c/ap.dcm", film_bytes(4, "6", "62", "AP"))
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-10")
    summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_studies, summary.num_delivered, summary.reasons) == (2, 2, {})
    assert sum(each.Modality == "OT" and each.StudyInstanceUID == "2.25.8.6" for each in datasets(night)) == 2


def test_of_a_film_sent_again_the_last_commit_counts_not_the_last_date(night):
    night.inbox.put("c/pa.dcm", film_bytes(30, "6", "61"))
    drafter = StandInDrafter()
    run_test_night(night.inbox, night.root, drafter, date="2026-11-10", resend_policy="supersede")
    assert drafter.num_drafted == 1
    summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (2, {})


def test_a_newer_draft_names_the_one_that_was_delivered_before(night):
    deliver(night.form(), night.root, night.settings)
    before = night.delivered()
    (old,) = [each for each in datasets(night) if each.Modality == "SR" and each.StudyInstanceUID == "2.25.8.6"]
    night.inbox.put("c/ap.dcm", film_bytes(4, "6", "62", "AP"))
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21")
    assert deliver(night.form(), night.root, night.settings).num_delivered == 1
    made = {key: data for key, data in night.delivered().items() if key not in before}
    reports = [pydicom.dcmread(DicomBytesIO(data)) for key, data in made.items() if key.endswith(".dcm")]
    (new,) = [each for each in reports if each.Modality == "SR"]
    (study,) = new.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (named,) = series.ReferencedSOPSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID, named.ReferencedSOPInstanceUID) == (
        old.StudyInstanceUID, old.SeriesInstanceUID, old.SOPInstanceUID,
    )  # fmt: skip

    def report_of(documents):
        (data,) = [data for key, data in documents.items() if key.startswith("2.25.8.6/") and key.endswith(".json")]
        return json.loads(data)["entry"][-1]["resource"]

    replaced = [each["valueReference"] for each in report_of(made)["extension"] if each["url"].endswith("-replaces")]
    assert [each["identifier"] for each in replaced] == report_of(before)["identifier"]
    assert not any(each["url"].endswith("-replaces") for each in report_of(before)["extension"])
    first = night.delivered()
    deliver(night.form(again=True), night.root, night.settings)
    assert night.delivered() == first


def test_another_secret_changes_nothing_of_what_is_delivered(night):
    deliver(night.form(), night.root, night.settings)
    first = night.delivered()
    old, new = Pseudonyms(KEY.encode()), Pseudonyms(NEW_KEY.encode())
    assert rekey(night.inbox.root, night.root, old, new, do=True).is_done
    settings = night.settings.model_copy(update={"hmac_key": type(night.settings.hmac_key)(NEW_KEY)})
    assert deliver(night.form(), night.root, settings).num_delivered == 2
    assert night.delivered() == first
    for key, data in first.items():
        if key.endswith(".json"):
            (form,) = json.loads(data)["entry"][-1]["resource"]["presentedForm"]
            assert key.partition("/")[0] in base64.b64decode(form["data"]).decode()


def test_documents_of_before_another_secret_are_not_left_behind(night):
    deliver(night.form(), night.root, night.settings)
    rekey(night.inbox.root, night.root, Pseudonyms(KEY.encode()), Pseudonyms(NEW_KEY.encode()), do=True)
    settings = night.settings.model_copy(update={"hmac_key": type(night.settings.hmac_key)(NEW_KEY)})
    patient = Pseudonyms(NEW_KEY.encode()).patient(NUMBER)
    with pytest.raises(ConfigError, match="2 studies were delivered before the secret was changed"):
        forget([patient], night.root, settings.model_copy(update={"identified_root": ""}), remove=True)
    assert forget([patient], night.root, settings, remove=True).num_withdrawn == 2 + 5 + 2
    assert night.zone.list_objects() == []
