"""A forgotten patient is nowhere any more, everybody else is as before, and a removal that was cut off is finished."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crrg.checked_json import checked_json
from crrg.config.data import IngestConfig
from crrg.data.dataset.pairs import list_versions, read_manifest, read_pairs, resolve_dataset
from crrg.domain.acquisition import WORDS
from crrg.domain.study import Split
from crrg.errors import ConfigError
from crrg.ledger.audit import read_audit
from crrg.ledger.ledger import ledger_rows
from crrg.ledger.manifest import read_manifests
from crrg.ledger.tables import table_bytes
from crrg.operations.ingest.ingest import ingest
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.operations.privacy.forget import forget
from crrg.operations.training.draft_store import SCHEMA
from crrg.operations.upkeep.gc import collect_garbage
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, run_test_night
from tests.support.forgetting import SETTINGS, decode_here, found_of, texts_of
from tests.support.zones import what_does_not_belong

PATIENT, OTHER = PSEUDONYMS.patient("P1"), PSEUDONYMS.patient("P2")
STUDIES = {PSEUDONYMS.study(f"2.25.8.{number}") for number in (1, 2)}
INSTANCES = {PSEUDONYMS.instance(f"2.25.9.{number}") for number in (11, 12, 21, 22)}
THEIRS = {PATIENT, *STUDIES, *INSTANCES}
FILMS = {
    "a/1.dcm": dicom_bytes(1, study="1", instance="11", patient="P1"),
    "a/2.dcm": dicom_bytes(2, study="1", instance="12", patient="P1", view="AP"),
    "a/3.dcm": dicom_bytes(3, study="2", instance="21", patient="P1", PatientSex="F", PatientAge="091Y"),
    "a/4.dcm": dicom_bytes(4, study="2", instance="22", patient="P1", view="LATERAL"),
    "b/1.dcm": dicom_bytes(5, study="3", instance="31", patient="P2", PatientSex="M", Manufacturer="Siemens"),
    "b/2.dcm": dicom_bytes(6, study="4", instance="41", patient="P3"),
    "c/1.dcm": dicom_bytes(7, study="5", instance="51", patient="P4"),
}  # fmt: skip
PARTS = ("/documents/", "/films/", "/evidence/")


class Place:
    """An archive that is inbox, too, and a root with a dataset, drafts of its films and two nights."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        later = ("a/2.dcm", "b/2.dcm")
        for key in sorted(FILMS.keys() - set(later)):
            self.inbox.put(key, FILMS[key])
        self.night("2026-11-20")
        for key in later:
            self.inbox.put(key, FILMS[key])
        self.night("2026-11-21")
        self.dataset = self.ingest().dataset
        train = [pair for pair in read_pairs(self.root, self.dataset, Split.TRAIN) if pair.film]
        rows = [
            {"patient_id": pair.patient_id, "study_id": pair.study_id, "instance_id": pair.instance_id,
             "pixel_digest": pair.film.pixel_digest, "findings": "", "impression": ""}
            for pair in train
        ]  # fmt: skip
        self.drafts = f"models/drafts/{'b' * 32}/chest-{self.dataset.version}-train-0123abcd/part-00000.parquet"
        self.root.put(self.drafts, table_bytes(pa.Table.from_pylist(rows, SCHEMA)))
        nbest = self.drafts.replace("-train-", "-train-nbest-8-")
        self.root.put(nbest, table_bytes(pa.Table.from_pylist(rows, SCHEMA)))
        self.root.put_json(f"{self.drafts.rpartition('/')[0]}/_manifest.json", {"parts": {self.drafts: "0" * 64}})

    def night(self, date):
        shown = {"max_sentences": 1, "cells": 4}
        return run_test_night(self.inbox, self.root, StandInDrafter(), date=date, num_workers=0, evidence=shown)

    def ingest(self, **changes):
        form = {"source": (self.inbox.root,), "dataset": "chest", "image_size": 64, "num_workers": 1, **changes}
        return ingest(IngestConfig.model_validate(form), self.root, PSEUDONYMS)

    def forget(self, *ids, remove=True, settings=SETTINGS):
        return forget(ids, self.root, settings, remove=remove)

    def copied(self, folder: Path) -> Place:
        """Return an own copy; what an ingest noted of the archive's files stays true."""
        copy = object.__new__(Place)
        copy.inbox, copy.root = self.inbox, Storage(str(folder / "root"))
        copy.dataset, copy.drafts = self.dataset, self.drafts
        shutil.copytree(self.root.root, copy.root.root)
        return copy


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        decode_here(patch)
        return Place(tmp_path_factory.mktemp("made"))


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    decode_here(monkeypatch)
    return made.copied(tmp_path)


def state_of(root: Storage, gone: set[str] = frozenset()):
    """Return what readers see of everybody else: drafts, documents, pictures, ledger, and dataset rows."""
    state = {}
    for manifest in read_manifests(root):
        index = root.get_json(manifest.index_key)
        shown = {key: sha256 for key, sha256 in index.items() if any(part in key for part in PARTS)}
        state |= {key: root.get_verified(key, sha256) for key, sha256 in shown.items()}
        for file in manifest.files:
            for row in pq.read_table(io.BytesIO(root.get_verified(file.key, file.sha256))).to_pylist():
                state[manifest.date, file.kind, repr(row)] = True
    dataset = resolve_dataset(root, "chest")
    for split in Split:
        for pair in read_pairs(root, dataset, split):
            shown = (pair.report, pair.source_digest, pair.acquisition)
            state["chest", split, pair.instance_id] = (*shown, pair.film.pixels.tobytes())
    return {key: value for key, value in state.items() if not any(name in repr(key) for name in gone)}


def test_a_dry_run_says_what_would_go_and_changes_nothing(place):
    before = texts_of(place.root)
    found = place.forget(PATIENT, remove=False)
    assert (found.num_patients, found.num_studies, found.num_images) == (1, 2, 4)
    assert found.dataset_rows == {f"chest version {place.dataset.version}": 4}
    assert found.night_drafts == {"2026-11-20 commit 2": 2, "2026-11-21 commit 1": 2}
    assert texts_of(place.root) == before
    assert found_of(place.root, {PATIENT})


@pytest.mark.parametrize(
    "asked",
    [PATIENT, PSEUDONYMS.study("2.25.8.2"), PSEUDONYMS.instance("2.25.9.12"), PSEUDONYMS.object_key("a/3.dcm")],
    ids=["patient", "study", "instance", "object"],
)
def test_nothing_is_left_of_a_patient_and_everything_of_the_others(place, asked):
    before = state_of(place.root, THEIRS)
    found = place.forget(asked)
    assert found.is_removed
    assert found_of(place.root, THEIRS) == []
    after = state_of(place.root)
    assert {key: value for key, value in after.items() if "FORGOTTEN" not in repr(key)} == before
    assert what_does_not_belong(Path(place.root.root)) == []
    assert check_nights(place.root).is_good
    for manifest in read_manifests(place.root):
        rows = ledger_rows(place.root, manifest)
        assert len(rows) == manifest.num_accepted + manifest.num_quarantined == manifest.num_inputs
        assert manifest.reasons["IDENTITY.FORGOTTEN"] == sum(row.reason == "IDENTITY.FORGOTTEN" for row in rows) > 0
        page = place.root.get(manifest.review_key.replace("index.html", "data-00000.js")).decode()
        assert "../review/films/" in page
    (entry,) = [entry for entry in read_audit(place.root) if entry.action == "forget"]
    assert (entry.subject, entry.inputs, entry.counts["images"]) == ("", (), 4)
    assert collect_garbage(place.root, min_age_h=0).objects == []


def test_a_film_of_a_forgotten_patient_is_refused_wherever_it_comes_again(place, tmp_path):
    place.forget(PATIENT)
    inbox = Storage(str(tmp_path / "again"))
    for key, data in FILMS.items():
        inbox.put(f"again/{key}", data)
    inbox.put("new.dcm", dicom_bytes(9, study="9", instance="91", patient="P1"))
    inbox.put("other.dcm", dicom_bytes(10, study="10", instance="101", patient="P9"))
    summary = run_test_night(inbox, place.root, StandInDrafter(), date="2026-11-22", num_workers=0)
    assert summary.reasons == {"DUPLICATE.RESENT": 3, "IDENTITY.FORGOTTEN": 5}
    assert summary.num_accepted == 1
    assert found_of(place.root, THEIRS | {PSEUDONYMS.study("2.25.8.9")}) == []
    # the objects that were forgotten are known, so that they are not even read again
    assert place.night("2026-11-23").status == "nothing_new"
    outcomes = {each.file: each.reason for each in inbox_outcomes(place.inbox.root, place.root, PSEUDONYMS)}
    assert {file for file, reason in outcomes.items() if reason} == {key for key in FILMS if key.startswith("a/")}
    place.inbox = inbox
    ingested = place.ingest(dataset="later")
    assert (ingested.num_accepted, ingested.reasons) == (4, {"IDENTITY.FORGOTTEN": 5})


def test_the_old_dataset_version_is_refused_and_the_next_ingest_reads_nothing_again(place):
    old = place.dataset
    place.forget(PATIENT)
    new = resolve_dataset(place.root, "chest")
    with pytest.raises(ConfigError, match=f"use version {new.version}"):
        resolve_dataset(place.root, "chest", old.version)
    assert list_versions(place.root, "chest") == [new.version]
    card = place.root.get_json(f"datasets/chest/version={new.version}/card.json")
    num_rows = sum(split["rows"] for split in card["splits"].values())
    assert (card["num_inputs"], card["num_accepted"], num_rows) == (3, 3, 3)
    again = place.ingest()
    assert (again.dataset.version, again.reused) == (new.version, True)
    # another seed makes another version out of the same rows, without reading a film
    other = place.ingest(seed=7)
    assert (other.num_accepted, other.reasons) == (3, {"IDENTITY.FORGOTTEN": 4})
    assert not place.root.exists(place.drafts)
    left = [each.key for each in place.root.list_objects("models/drafts")]
    assert not [key for key in left if key.endswith("_manifest.json") or "nbest" in key]


def test_rows_of_the_table_beside_the_parts_go_and_with_the_last_known_one_the_table(place):
    def table():
        entry = read_manifest(place.root, resolve_dataset(place.root, "chest")).get("acquisition")
        rows = entry and pq.read_table(io.BytesIO(place.root.get_verified(entry["key"], entry["sha256"]))).to_pylist()
        return rows and {row.pop("instance_id"): tuple(row.values()) for row in rows}

    unknown, other = (None, None, None), PSEUDONYMS.instance("2.25.9.31")
    before = table()
    assert before.keys() >= INSTANCES
    assert before[PSEUDONYMS.instance("2.25.9.21")] == ("F", "80 and over", None)
    assert before[other] == ("M", None, "siemens")
    place.forget(PATIENT)
    assert table() == {name: row for name, row in before.items() if name not in INSTANCES}
    card = place.root.get_json(f"datasets/chest/version={resolve_dataset(place.root, 'chest').version}/card.json")
    assert (card["sexes"], card["age_bands"]) == ({"M": 1, "unknown": 2}, {"unknown": 3})
    # an ingest that takes every row over from the version knows the same of them
    place.ingest(seed=7)
    assert table()[other] == ("M", None, "siemens")
    place.forget(OTHER)
    assert table() is None
    rows = [pair for split in Split for pair in read_pairs(place.root, resolve_dataset(place.root, "chest"), split)]
    assert [tuple(getattr(pair.acquisition, name) for name in WORDS) for pair in rows] == [unknown] * 2
    assert not any("_acquisition" in stored.key for stored in place.root.list_objects())


def test_a_patient_who_is_the_only_one_leaves_no_version(place):
    for patient in ("P2", "P3", "P4"):
        place.forget(PSEUDONYMS.patient(patient))
    assert place.forget(PATIENT).is_removed
    with pytest.raises(ConfigError, match="no such dataset"):
        resolve_dataset(place.root, "chest")
    with pytest.raises(ConfigError, match="ingest again"):
        resolve_dataset(place.root, "chest", place.dataset.version)
    assert [manifest.num_accepted for manifest in read_manifests(place.root)] == [0, 0]


def test_an_unknown_id_is_refused_before_anything_goes_and_a_second_time_is_fine(place):
    before = texts_of(place.root)
    with pytest.raises(ConfigError, match="nothing belongs to this id"):
        place.forget(PATIENT, "abc")
    assert texts_of(place.root) == before
    place.forget(PATIENT)
    assert place.forget(PATIENT).is_removed is False


def test_whoever_asks_again_is_told_that_it_was_forgotten_by_whichever_id(place, tmp_path):
    place.forget(PATIENT)
    before = texts_of(place.root)
    asked = (PATIENT, *STUDIES, *INSTANCES, *(PSEUDONYMS.object_key(key) for key in FILMS if key.startswith("a/")))
    for name in asked:
        found = place.forget(name)
        counts = (found.num_forgotten_before, found.num_patients, found.num_objects, found.is_removed)
        assert counts == (1, 0, 0, False), name
    assert texts_of(place.root) == before
    found = place.forget(*STUDIES, OTHER)
    assert (found.num_forgotten_before, found.num_patients, found.is_removed) == (2, 1, True)
    for other in (PSEUDONYMS.study("2.25.8.9"), PSEUDONYMS.patient("P9")):
        with pytest.raises(ConfigError, match="nothing belongs to this id"):
            place.forget(other)
    # a film of theirs that came again and was refused is known by its object alone
    inbox = Storage(str(tmp_path / "again"))
    inbox.put("new.dcm", dicom_bytes(9, study="9", instance="91", patient="P1"))
    run_test_night(inbox, place.root, StandInDrafter(), date="2026-11-22", num_workers=0)
    assert place.forget(PSEUDONYMS.object_key("new.dcm")).num_forgotten_before == 1
    assert found_of(place.root, THEIRS) == []
    assert what_does_not_belong(Path(place.root.root)) == []


def test_an_object_of_nobody_known_is_forgotten_by_itself(place, tmp_path):
    inbox = Storage(str(tmp_path / "cut"))
    inbox.put("cut.dcm", FILMS["a/1.dcm"][:900])
    inbox.put("other.dcm", FILMS["b/1.dcm"][:900])
    run_test_night(inbox, place.root, StandInDrafter(), date="2026-11-22", num_workers=0)
    found = place.forget(PSEUDONYMS.object_key("cut.dcm"))
    assert (found.num_patients, found.num_objects, found.is_removed) == (0, 1, True)
    (manifest,) = read_manifests(place.root, "2026-11-22")
    reasons = {row.key_hmac: (row.reason, row.source_digest) for row in ledger_rows(place.root, manifest)}
    assert reasons[PSEUDONYMS.object_key("cut.dcm")] == ("IDENTITY.FORGOTTEN", b"")
    assert reasons[PSEUDONYMS.object_key("other.dcm")][0] != "IDENTITY.FORGOTTEN"
    assert found_of(place.root, {PATIENT})
    again = place.forget(PSEUDONYMS.object_key("cut.dcm"))
    assert (again.num_forgotten_before, again.num_objects, again.is_removed) == (1, 0, False)


def test_unfinished_work_that_holds_the_patient_goes_too(place):
    place.inbox = Storage(place.inbox.root)
    plan = {"inputs": [{"previous": {"patient_id": PATIENT}}]}
    run = "results/date=2026-11-25/run=0123456789abcdef"
    place.root.put_json(f"{run}/plan/inputs-00000.json", plan)
    place.root.put(f"{run}/review/films/{PSEUDONYMS.instance('2.25.9.11')}.png", b"")
    place.root.put_json("spool/metrics.json", {"study": PSEUDONYMS.study("2.25.8.1")})
    place.root.put_json("spool/other.json", {"study": PSEUDONYMS.study("2.25.8.3")})
    place.root.put(".prefect/storage/0123", f'{{"studies": ["{PSEUDONYMS.study("2.25.8.1")}"]}}'.encode())
    place.forget(PATIENT)
    assert found_of(place.root, THEIRS) == []
    assert place.root.exists("spool/other.json")
    assert place.root.list_objects(run) == []


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: data.replace(b"acc", b"bcc"), lambda _: b"[]"])
def test_unfinished_work_of_which_a_record_is_damaged_goes_too(place, spoil, caplog):
    """Whose it is cannot be told any more."""
    run, other = (f"results/date=2026-11-25/run={digit * 16}" for digit in "01")
    ids = {name: PSEUDONYMS.patient("P9") for name in ("patient_id", "study_id", "instance_id", "key_hmac")}
    record = checked_json({"outcomes": [{**ids, "outcome": "accepted", "reason": ""}]})
    place.root.put(f"{run}/shards/shard-00000.json", spoil(record))
    place.root.put(f"{run}/reports-00000.parquet", b"")
    place.root.put(f"{other}/shards/shard-00000.json", record)
    place.forget(PATIENT)
    assert place.root.list_objects(run) == []
    assert f"a removal takes the run: {run}/shards/shard-00000.json" in caplog.text


class Killed(BaseException):
    """Stands for kill -9: nothing is written after it, not even by what cleans up."""


def test_a_removal_that_is_killed_anywhere_is_finished_by_the_next_one(made, tmp_path, monkeypatch):
    whole = made.copied(tmp_path / "whole")
    num_writes = count_writes(monkeypatch, whole, len(FILMS) * 10**6)
    expected = state_of(whole.root)
    for number in sorted({1, 3, num_writes - 1, *range(5, num_writes, num_writes // 4)}):
        place = made.copied(tmp_path / str(number))
        with pytest.raises(Killed):
            count_writes(monkeypatch, place, number)
        for stored in place.root.list_objects("leases"):
            place.root.delete(stored.key)
        # asked for by a study: what it belonged to may be gone already
        place.forget(PSEUDONYMS.study("2.25.8.1") if number > 3 else PATIENT)
        assert found_of(place.root, THEIRS) == [], number
        assert state_of(place.root) == expected, number
        assert place.root.list_objects("control/forgetting") == []


def count_writes(monkeypatch, place, last):
    """Forget with at most so many writes and removals, and return how many there were."""
    num_done = 0
    with monkeypatch.context() as patch:
        for name in ("put", "put_if_absent", "delete"):
            original = getattr(Storage, name)

            def write(self, key, *rest, original=original):
                nonlocal num_done
                if num_done >= last:
                    raise Killed
                # a lease is renewed as often as time passes
                num_done += not key.startswith("leases/")
                original(self, key, *rest)

            patch.setattr(Storage, name, write)
        place.forget(PATIENT)
    return num_done
