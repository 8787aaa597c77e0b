"""What is delivered, and what is forgotten, where films of two patients name one study."""

from __future__ import annotations

import json

import pydicom
import pytest
from pydicom.filebase import DicomBytesIO

from crrg.errors import StorageError
from crrg.ledger.ledger import ledger_rows
from crrg.ledger.manifest import read_manifests
from crrg.operations.delivery import deliver as delivery
from crrg.operations.delivery.deliver import deliver
from crrg.operations.delivery.dicom_send import REFUSED
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.patients import StudyPatients
from crrg.operations.privacy.forget import forget
from tests.support.delivered_night import NUMBER, STUDY_UIDS, DeliverableNight, film_bytes
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, run_test_night

pytest.importorskip("highdicom", reason="delivery needs the extra dicom")
LATER = "2026-11-21"
PLACES = ("results", "quarantine", "ledger")


@pytest.fixture
def night(tmp_path):
    return DeliverableNight(tmp_path)


def put_other_patient(night: DeliverableNight, key: str = "d/pa.dcm", instance: str = "59", seed: int = 9) -> None:
    """Put a film of another patient into the first study of the night."""
    night.inbox.put(key, film_bytes(seed, "5", instance, PatientID="MRN-9999", PatientName="Other^Person"))


def run_later(night: DeliverableNight, **changes: object) -> None:
    run_test_night(night.inbox, night.root, StandInDrafter(), **{"date": LATER, **changes})


def objects_delivered(night: DeliverableNight) -> list[pydicom.Dataset]:
    """Return the DICOM objects of the first study in the identified zone."""
    found = [pydicom.dcmread(DicomBytesIO(data)) for key, data in night.delivered().items() if key.endswith(".dcm")]
    return [each for each in found if each.StudyInstanceUID == STUDY_UIDS[0]]


def patients_delivered(night: DeliverableNight) -> set[str]:
    return {each.PatientID for each in objects_delivered(night)}


def test_no_document_holds_anything_of_the_other_patient(night):
    put_other_patient(night)
    run_later(night)
    summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (2, {})
    assert patients_delivered(night) == {NUMBER}
    other = PSEUDONYMS.instance("2.25.9.59")
    keys = [each.key for each in night.root.list_objects("results") if "report.json" in each.key]
    documents = [json.dumps(night.root.get_json(key)) for key in keys]
    assert documents
    assert not any(other in each for each in documents)


def test_draft_of_two_patients_that_an_earlier_version_made_is_not_delivered(night, monkeypatch):
    put_other_patient(night)
    with monkeypatch.context() as before:
        before.setattr(StudyPatients, "may_have", lambda *_: True)
        before.setattr("crrg.operations.night.late._Collected._moves", lambda self, _, name: name not in self.images)
        run_later(night)
    summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (1, {"IDENTITY.CONFLICT": 1})
    assert patients_delivered(night) == set()
    # the wrong header is corrected where it lies
    night.inbox.put("d/pa.dcm", film_bytes(9, "5", "59"))
    run_later(night, date="2026-11-22", resend_policy="supersede")
    summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (1, {})
    assert patients_delivered(night) == {NUMBER}


def test_corrected_patient_is_delivered_in_the_place_of_the_wrong_one(night):
    deliver(night.form(), night.root, night.settings)
    for key, instance, view, seed in (("b/ap.dcm", "51", "AP", 1), ("b/pa.dcm", "52", "PA", 2)):
        night.inbox.put(key, film_bytes(seed, "5", instance, view, PatientID="MRN-1234"))
    run_later(night, resend_policy="supersede")
    assert deliver(night.form(), night.root, night.settings).num_delivered == 1
    assert patients_delivered(night) == {"MRN-1234"}
    reports = [each for each in objects_delivered(night) if each.Modality == "SR"]
    assert not any("PredecessorDocumentsSequence" in each for each in reports)
    assert check_nights(night.root).is_good


class NeverOverwrites:
    """An archive that keeps the first object of every UID, in the place of ``send_objects``."""

    def __init__(self) -> None:
        self.held: dict[str, pydicom.Dataset] = {}

    def take(self, objects: list[pydicom.Dataset], _archive: object, *, may_be_held: bool) -> int:
        new = [each for each in objects if each.SOPInstanceUID not in self.held]
        self.held |= {each.SOPInstanceUID: each for each in new}
        if len(new) < len(objects) and not may_be_held:
            raise StorageError("the archive holds an earlier version", code=REFUSED)
        return len(new)


@pytest.mark.parametrize("changed", [{"PatientID": "MRN-1234"}, {"PatientName": "Corrected^Name"}])
def test_what_an_archive_keeps_of_the_wrong_patient_is_not_delivered(night, monkeypatch, changed):
    archive = NeverOverwrites()
    monkeypatch.setattr(delivery, "send_objects", archive.take)
    settings = night.settings.model_copy(update={"archives": ("archive:104",)})
    form = {"send_to": "archive:104", "forms": ("sr",)}
    assert deliver(night.form(**form), night.root, settings).num_objects_sent == 2
    for key, instance, view, seed in (("b/ap.dcm", "51", "AP", 1), ("b/pa.dcm", "52", "PA", 2)):
        night.inbox.put(key, film_bytes(seed, "5", instance, view, **changed))
    is_renamed = "PatientName" in changed
    run_later(night, **({} if is_renamed else {"resend_policy": "supersede"}))
    studies = (PSEUDONYMS.study(STUDY_UIDS[0]),)
    again = night.form(**form, studies=studies, again=is_renamed)
    assert deliver(again, night.root, settings).reasons == {REFUSED: 1}
    archive.held.clear()
    assert deliver(again, night.root, settings).num_objects_sent == 1
    ((name, value),) = changed.items()
    assert all(value in str(each[name].value) for each in archive.held.values())


def test_what_an_archive_holds_of_the_same_draft_is_delivered_but_not_sent(night, monkeypatch):
    archive = NeverOverwrites()
    monkeypatch.setattr(delivery, "send_objects", archive.take)
    settings = night.settings.model_copy(update={"archives": ("archive:104",)})
    form = night.form(send_to="archive:104", forms=("sr",))
    deliver(form, night.root, settings)
    for note in night.zone.list_objects("delivered"):
        night.zone.delete(note.key)
    summary = deliver(form, night.root, settings)
    assert (summary.num_delivered, summary.num_objects_sent, summary.reasons) == (2, 0, {})


def test_forgetting_the_patient_of_a_refused_film_leaves_the_others_draft(night):
    put_other_patient(night)
    run_later(night)
    found = forget([PSEUDONYMS.patient("MRN-9999")], night.root, night.settings, remove=True)
    assert (found.num_studies, found.num_images) == (0, 1)
    text = b"".join(night.root.get(each.key) for folder in PLACES for each in night.root.list_objects(folder))
    assert not any(name.encode() in text for name in (PSEUDONYMS.patient("MRN-9999"), PSEUDONYMS.instance("2.25.9.59")))
    rows = [row for manifest in read_manifests(night.root) for row in ledger_rows(night.root, manifest)]
    assert sorted(row.reason for row in rows) == ["", "", "", "IDENTITY.FORGOTTEN"]
    assert check_nights(night.root).is_good
    assert deliver(night.form(), night.root, night.settings).num_delivered == 2


def test_forgetting_the_patient_of_the_draft_takes_the_refused_film_along(night):
    put_other_patient(night)
    run_later(night)
    forget([PSEUDONYMS.patient(NUMBER)], night.root, night.settings, remove=True)
    text = b"".join(night.root.get(each.key) for each in night.root.list_objects("results"))
    assert PSEUDONYMS.study("2.25.8.5").encode() not in text
    assert check_nights(night.root).is_good
