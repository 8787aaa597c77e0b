"""Sources that a delivery cannot read, or that look unlike others: each is judged alone, as the night judged it."""

from __future__ import annotations

import errno
from datetime import datetime
from zoneinfo import ZoneInfo

import pydicom
import pytest
from pydicom.filebase import DicomBytesIO
from typer.testing import CliRunner

from crrg.cli.main import app
from crrg.errors import StorageError
from crrg.ledger.audit import read_audit
from crrg.ledger.manifest import read_manifests
from crrg.operations.delivery import deliver as delivery
from crrg.operations.delivery.deliver import deliver
from crrg.operations.privacy.reidentify import reidentify
from tests.support.delivered_night import NUMBER, STUDY_UIDS, DeliverableNight, film_bytes
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, run_test_night
from tests.support.keys import KEY
from tests.support.source_names import named_film
from tests.support.store_hooks import refusing

pytest.importorskip("highdicom", reason="delivery needs the extra dicom")
BOTH = (errno.EACCES, errno.EIO)


@pytest.fixture
def night(tmp_path):
    return DeliverableNight(tmp_path)


@pytest.fixture
def fail(night, monkeypatch):
    return refusing(monkeypatch, night.inbox)


def without_preamble(seed: int, study: str, instance: str, *, with_meta: bool) -> bytes:
    film = pydicom.dcmread(DicomBytesIO(film_bytes(seed, study, instance)))
    if not with_meta:
        del film.file_meta
        film.preamble = None
        buffer = DicomBytesIO()
        film.save_as(buffer, implicit_vr=True, little_endian=True, enforce_file_format=False)
        return buffer.getvalue()
    return film_bytes(seed, study, instance)[132:]


@pytest.mark.parametrize("number", BOTH)
def test_one_source_that_is_not_given_out_ends_no_delivery(night, fail, number, caplog):
    fail(number, ["b/ap.dcm"])
    summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_studies, summary.num_delivered) == (2, 1)
    assert summary.reasons == {"CHANGED.UNREADABLE": 1}
    assert {key.split("/")[0] for key in night.delivered()} == {STUDY_UIDS[1]}
    assert "ap.dcm" not in caplog.text
    fail(number, [])
    assert deliver(night.form(), night.root, night.settings).num_delivered == 1


@pytest.mark.parametrize("number", BOTH)
def test_an_inbox_that_gives_out_nothing_ends_the_delivery(night, fail, number):
    fail(number, [each.key for each in night.inbox.list_objects()])
    with pytest.raises(StorageError) as caught:
        deliver(night.form(), night.root, night.settings)
    assert ".dcm" not in str(caught.value)
    assert night.delivered() == {}


@pytest.mark.parametrize("with_meta", [True, False])
def test_a_film_without_preamble_that_a_night_drafted_is_delivered(night, with_meta):
    night.inbox.put("d/pa.dcm", without_preamble(7, "7", "71", with_meta=with_meta))
    assert run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21").num_accepted == 1
    summary = deliver(night.form(date="2026-11-21"), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (1, {})
    assert {key.split("/")[0] for key in night.delivered()} == {"2.25.8.7"}
    (found,) = reidentify(night.inbox.root, [PSEUDONYMS.study("2.25.8.7")], night.root, PSEUDONYMS)
    assert (found.patient_id, found.study_uid) == (NUMBER, "2.25.8.7")


@pytest.mark.parametrize("number", BOTH)
def test_a_source_that_is_not_given_out_keeps_no_other_from_being_found(night, fail, number):
    fail(number, ["b/ap.dcm"])
    found = reidentify(night.inbox.root, [PSEUDONYMS.patient(NUMBER)], night.root, PSEUDONYMS)
    assert [(each.file, each.patient_id, each.reason) for each in found] == [
        ("b/ap.dcm", "", "CHANGED.UNREADABLE"),
        ("b/pa.dcm", NUMBER, ""),
        ("c/pa.dcm", NUMBER, ""),
    ]
    fail(number, [each.key for each in night.inbox.list_objects()])
    with pytest.raises(StorageError) as caught:
        reidentify(night.inbox.root, [PSEUDONYMS.patient(NUMBER)], night.root, PSEUDONYMS)
    assert ".dcm" not in str(caught.value)


def test_the_command_says_that_an_identity_is_still_to_be_read(night, fail, monkeypatch):
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    asked = ["reidentify", "--inbox", night.inbox.root, PSEUDONYMS.patient(NUMBER), "--root", night.root.root]
    fail(errno.EACCES, ["b/ap.dcm"])
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    assert done.output.count("CHANGED.UNREADABLE") == 1
    assert done.output.count(NUMBER) == 2
    fail(errno.EACCES, [])
    done = CliRunner().invoke(app, asked)
    assert (done.exit_code, done.output.count(NUMBER)) == (0, 3)


def test_source_of_which_only_the_header_was_corrected_is_delivered_once_a_night_read_it(night):
    night.inbox.put("b/ap.dcm", film_bytes(1, "5", "51", "AP", AccessionNumber="ACC-9"))
    night.inbox.put("b/pa.dcm", film_bytes(2, "5", "52", "PA", AccessionNumber="ACC-9"))
    summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (1, {"CHANGED.REPLACED": 1})
    assert run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21").reasons == {
        "DUPLICATE.RESENT": 2
    }
    summary = deliver(night.form(forms=("sr",)), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (2, {})
    films = [pydicom.dcmread(DicomBytesIO(data)) for key, data in night.delivered().items() if key.endswith(".dcm")]
    assert {each.AccessionNumber for each in films if each.StudyInstanceUID == STUDY_UIDS[0]} == {"ACC-9"}


def test_a_capture_that_an_archive_sends_back_is_no_film(night):
    deliver(night.form(forms=("sc",)), night.root, night.settings)
    for place, data in enumerate(night.delivered().values()):
        night.inbox.put(f"sent-back/{place}.dcm", data)
    summary = run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21")
    assert (summary.num_accepted, summary.reasons) == (0, {"SOP_CLASS.OWN_CAPTURE": 3})


def test_a_name_in_another_alphabet_keeps_no_study_back(night):
    night.inbox.put("d/pa.dcm", named_film(("", "ISO 2022 IR 87"), "7"))
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21")
    summary = deliver(night.form(date="2026-11-21", timezone="Asia/Tokyo"), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (1, {})
    (manifest,) = read_manifests(night.root, "2026-11-21")
    committed = datetime.fromisoformat(manifest.committed_utc).astimezone(ZoneInfo("Asia/Tokyo"))
    objects = [pydicom.dcmread(DicomBytesIO(data)) for key, data in night.delivered().items() if key.endswith(".dcm")]
    assert {(each.ContentDate, each.ContentTime) for each in objects} == {tuple(f"{committed:%Y%m%d %H%M%S}".split())}


@pytest.mark.parametrize("forms", [("fhir", "sr", "sc"), ("sr", "sc")])
def test_where_dicom_objects_cannot_be_made_fhir_is_written_and_the_rest_tried_again(night, monkeypatch, forms):
    def fails(_):
        raise ValueError(NUMBER)

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "structured_report", fails)
        for again, num_times in ((False, 1), (False, 1), (True, 2)):
            summary = deliver(night.form(forms=forms, again=again), night.root, night.settings)
            assert (summary.num_delivered, summary.reasons) == (0, {"DOCUMENT.FAILED": 2})
            written = night.delivered()
            assert [key.rpartition(".")[2] for key in written] == ["json"] * (2 if "fhir" in forms else 0)
            entries = [entry for entry in read_audit(night.root) if entry.action == "deliver"]
            assert len(entries) == len(written) * num_times, "what lies there already is not written again"
    assert deliver(night.form(forms=forms), night.root, night.settings).num_delivered == 2
    assert written.items() <= night.delivered().items()
