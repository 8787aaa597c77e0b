"""The way back from a pseudonym: right, audited, and nowhere stored."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress

import pyarrow.parquet as pq
import pytest

from crrg.config.data import IngestConfig
from crrg.data.archives.chexpert import ChexpertSource
from crrg.data.dataset.pairs import read_pairs
from crrg.domain.study import Split
from crrg.errors import CrrgError, StorageError
from crrg.ledger.audit import read_audit
from crrg.operations.ingest.ingest import ingest
from crrg.operations.privacy import recomputed
from crrg.operations.privacy.reidentify import reidentify
from crrg.operations.summaries import ingest_markdown
from crrg.retries import ACCESS_DENIED
from crrg.storage import Storage
from tests.support.delivered_night import ACCESSION, NUMBER, DeliverableNight
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, png_bytes, run_test_night


@pytest.fixture
def night(tmp_path):
    return DeliverableNight(tmp_path)


def test_every_kind_of_pseudonym_leads_to_its_source(night):
    patient, study = PSEUDONYMS.patient(NUMBER), PSEUDONYMS.study("2.25.8.6")
    instance, key = PSEUDONYMS.instance("2.25.9.51"), PSEUDONYMS.object_key("b/pa.dcm")
    found = reidentify(night.inbox.root, [study, patient, instance, key], night.root, PSEUDONYMS)
    assert [(each.pseudonym, each.kind, each.file) for each in found] == [
        (study, "study", "c/pa.dcm"),
        (patient, "patient", "b/ap.dcm"),
        (patient, "patient", "b/pa.dcm"),
        (patient, "patient", "c/pa.dcm"),
        (instance, "instance", "b/ap.dcm"),
        (key, "object", "b/pa.dcm"),
    ]
    assert {(each.patient_id, each.accession_number) for each in found} == {(NUMBER, ACCESSION)}
    assert found[0].study_uid == "2.25.8.6"
    assert NUMBER not in repr(found)
    assert "pa.dcm" not in repr(found)


def test_a_picture_has_a_file_and_no_identity(night):
    night.inbox.put("e/picture.png", png_bytes(5))
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21")
    (found,) = reidentify(night.inbox.root, [PSEUDONYMS.object_key("e/picture.png")], night.root, PSEUDONYMS)
    assert (found.file, found.patient_id) == ("e/picture.png", "")


@pytest.mark.parametrize("kind", ["folder", "chexpert"])
def test_an_object_that_an_ingest_refused_has_a_file(night, kind):
    night.inbox.put("x/patient00001/study1/view1_frontal.jpg", b"")
    night.inbox.put("train.csv", b"Path,No Finding\nx/patient00001/study1/view1_frontal.jpg,1\n")
    form = IngestConfig(source=f"{kind}:{night.inbox.root}", dataset="d", image_size=64, num_workers=1)
    with suppress(CrrgError):  # of the other kind's films there is none
        ingest(form, night.root, PSEUDONYMS)
    (key,) = [stored.key for stored in night.root.list_objects("quarantine/d")]
    rows = pq.read_table(io.BytesIO(night.root.get(key))).to_pylist()
    (asked,) = [row["key_hmac"] for row in rows if row["reason"] == "EMPTY.FILE"]
    (found,) = reidentify(night.inbox.root, [asked], night.root, PSEUDONYMS)
    assert (found.kind, found.file) == ("object", "x/patient00001/study1/view1_frontal.jpg")


def test_the_question_is_audited_also_without_answer(night):
    assert reidentify(night.inbox.root, ["unknown"], night.root, PSEUDONYMS) == []
    reidentify(night.inbox.root, [PSEUDONYMS.patient(NUMBER)], night.root, PSEUDONYMS)
    entries = [entry for entry in read_audit(night.root) if entry.action != "nightly"]
    assert [entry.inputs for entry in entries] == [("unknown",), (PSEUDONYMS.patient(NUMBER),)]
    for stored in night.root.list_objects():
        assert NUMBER.encode() not in night.root.get(stored.key)
        assert b"2.25.8.6" not in night.root.get(stored.key)


def test_films_that_no_night_knows_under_their_key_are_found(night):
    night.inbox.put("moved/away.dcm", night.inbox.get("c/pa.dcm"))
    night.inbox.delete("c/pa.dcm")
    picture = png_bytes(7)
    night.inbox.put("e/new.png", picture)
    digest = hashlib.sha256(picture).hexdigest()
    asked = [PSEUDONYMS.study("2.25.8.6"), PSEUDONYMS.instance(digest, "content"), PSEUDONYMS.instance("2.25.9.52")]
    found = reidentify(night.inbox.root, asked, night.root, PSEUDONYMS)
    assert [(each.kind, each.file, each.patient_id) for each in found] == [
        ("study", "moved/away.dcm", NUMBER), ("instance", "e/new.png", ""), ("instance", "b/pa.dcm", NUMBER)
    ]  # fmt: skip


def test_every_id_of_a_training_cohort_leads_to_its_source(tmp_path):
    archive, root = Storage(str(tmp_path / "archive")), Storage(str(tmp_path / "root"))
    archive.put("a.png", png_bytes(1))
    archive.put("b.png", png_bytes(2))
    archive.put("reports.csv", b"file,patient_id,study_id,findings\na.png,p-1,s-1,The lungs are clear.\n")
    dataset = ingest(
        IngestConfig(source=archive.root, dataset="d", image_size=64, num_workers=1), root, PSEUDONYMS
    ).dataset
    rows = [pair for split in Split for pair in read_pairs(root, dataset, split)]
    assert len(rows) == 2
    for row in rows:
        asked = [row.patient_id, row.study_id, row.instance_id]
        found = reidentify(archive.root, asked, root, PSEUDONYMS)
        assert [each.kind for each in found] == ["patient", "study", "instance"]
        (file,) = {each.file for each in found}
        assert {(each.patient_id, each.study_uid) for each in found} == {
            ("p-1", "p-1/s-1") if file == "a.png" else ("", "")
        }


def test_what_is_not_given_out_or_damaged_keeps_no_answer_back(tmp_path, monkeypatch, caplog):
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    for name in ("denied.dcm", "z.png"):
        inbox.put(name, png_bytes(len(name)))
    inbox.put("table.csv", b"file,patient_id\n\xff\xfe,\x00")
    inbox.put("two.dcm", dicom_bytes(3, patient="A\\B"))
    real = Storage.get

    def denying(storage, key):
        if key == "denied.dcm":
            raise StorageError("denied", key, code=ACCESS_DENIED)
        return real(storage, key)

    monkeypatch.setattr(Storage, "get", denying)
    asked = [PSEUDONYMS.instance(hashlib.sha256(png_bytes(5)).hexdigest(), "content"), PSEUDONYMS.patient("A")]
    (found,) = reidentify(inbox.root, asked, root, PSEUDONYMS)
    assert (found.pseudonym, found.file) == (asked[0], "z.png"), "of two persons' film nobody is told"
    assert "2 objects could not be read or have no identity" in caplog.text


def test_of_an_archive_that_names_all_ids_no_film_is_read_to_find_one(tmp_path, monkeypatch):
    archive, root = Storage(str(tmp_path / "archive")), Storage(str(tmp_path / "root"))
    film = "train/patient00001/study1/view1_frontal.jpg"
    archive.put(film, b"never read")
    archive.put("train.csv", f"Path,No Finding\n{film},1\n".encode())
    asked_for = []
    monkeypatch.setattr(recomputed, "read_head", lambda _inbox, key, _size: asked_for.append(key) or b"")
    (item,) = ChexpertSource(archive).items()
    asked = PSEUDONYMS.patient(item.patient_id, ChexpertSource.site)
    (found,) = reidentify(archive.root, [asked], root, PSEUDONYMS)
    assert (found.kind, found.file, asked_for) == ("patient", film, ["train.csv"])


def test_a_row_that_an_ingest_refused_leads_to_what_it_names(tmp_path):
    archive, root = Storage(str(tmp_path / "archive")), Storage(str(tmp_path / "root"))
    archive.put("a.png", png_bytes(1))
    archive.put("reports.csv", b"file,patient_id,findings\na.png,p-1,Clear lungs.\nb.png,,Clear.\n,,Clear heart.\n")
    form = IngestConfig(source=archive.root, dataset="d", image_size=64, num_workers=1, max_failure_rate=1)
    summary = ingest(form, root, PSEUDONYMS)
    rows = pq.read_table(io.BytesIO(root.get(summary.quarantine_key))).to_pylist()
    asked = {row["detail"]: row["key_hmac"] for row in rows}
    assert {row["reason"] for row in rows} == {"IDENTITY.MISSING"}
    found = reidentify(archive.root, list(asked.values()), root, PSEUDONYMS)
    assert {(each.kind, each.pseudonym) for each in found} == {("row", name) for name in asked.values()}
    assert {each.file for each in found} == {"b.png", "table 1 row 3"}
    page = ingest_markdown(ingest(form, root, PSEUDONYMS))
    assert "| IDENTITY.MISSING | 2 | a report without film names no patient, and others |" in page
    assert "reidentify --inbox SOURCE KEY_HMAC` names the file, or the row" in page
