"""A patient who was forgotten under the secret before stays out of every dataset that the new one begins."""

from __future__ import annotations

import pytest

from crrg.config.data import IngestConfig
from crrg.data.dataset.pairs import read_pairs
from crrg.data.decoding.pool import decode_many
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.study import Split
from crrg.errors import ConfigError, CrrgError, StorageError
from crrg.operations.ingest import shards as ingest_shards
from crrg.operations.ingest.ingest import ingest
from crrg.operations.ingest.shards import decode_shard, plan_shards
from crrg.operations.privacy.forget import forget
from crrg.retries import ACCESS_DENIED
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, dicom_bytes
from tests.support.forgetting import SETTINGS, decode_here
from tests.support.keys import KEY, NEW_KEY

NEW = Pseudonyms(NEW_KEY.encode())
BOTH = Pseudonyms(NEW_KEY.encode(), Pseudonyms(KEY.encode()))
THIRD = Pseudonyms(NEW_KEY[::-1].encode(), Pseudonyms(NEW_KEY.encode()))


class Archive:
    """Films of P1 to P4 and a dataset of them from which P1 was removed; no night read any of it."""

    def __init__(self, folder) -> None:
        self.source, self.root = Storage(str(folder / "source")), Storage(str(folder / "root"))
        for number in range(1, 5):
            self.put(f"{number}.dcm", number, number)
        self.ingest(PSEUDONYMS)
        forget([PSEUDONYMS.patient("P1")], self.root, SETTINGS, remove=True)

    def put(self, key, seed, number):
        self.source.put(key, dicom_bytes(seed, study=str(seed), instance=str(seed), patient=f"P{number}"))

    def form(self, **changes):
        form = {"source": (self.source.root,), "dataset": "chest", "image_size": 64, "num_workers": 1, **changes}
        return IngestConfig.model_validate({**form, "shard_size": 2})

    def ingest(self, pseudonyms, **changes):
        return ingest(self.form(**changes), self.root, pseudonyms)

    def patients(self, summary):
        pairs = (pair for split in Split for pair in read_pairs(self.root, summary.dataset, split))
        return {number for pair in pairs for number in range(1, 5) if pair.patient_id == NEW.patient(f"P{number}")}


@pytest.fixture
def archive(tmp_path, monkeypatch):
    decode_here(monkeypatch)
    monkeypatch.setattr(ingest_shards, "decode_many", lambda items, size, _, **__: decode_many(items, size, 0))
    return Archive(tmp_path)


@pytest.mark.parametrize("changes", [{"new_secret": True}, {"dataset": "another"}])
def test_no_dataset_begins_under_a_new_secret_while_somebody_would_come_back(archive, changes):
    for pseudonyms in (NEW, Pseudonyms(NEW_KEY.encode(), Pseudonyms(b"quite another one, of before that"))):
        with pytest.raises(ConfigError, match=f"1 patients were forgotten under secret {PSEUDONYMS.key_id}.*CRRG_OLD"):
            archive.ingest(pseudonyms, **changes)
        with pytest.raises(ConfigError, match="--forgotten-may-return"):
            plan_shards(archive.form(**changes), archive.root, pseudonyms)
    assert archive.patients(archive.ingest(BOTH, **changes)) == {2, 3, 4}


def test_who_was_forgotten_is_carried_over_and_the_secret_before_needed_no_more(archive):
    made = archive.ingest(BOTH, new_secret=True)
    assert (archive.patients(made), made.reasons) == ({2, 3, 4}, {"IDENTITY.FORGOTTEN": 1})
    assert len(archive.root.list_folder("control/forgotten")) == 3
    archive.put("late.dcm", 5, 1)
    for changes in ({}, {"new_secret": True}, {"dataset": "another"}):
        made = archive.ingest(NEW, **changes)
        assert (archive.patients(made), made.reasons) == ({2, 3, 4}, {"IDENTITY.FORGOTTEN": 2})
    # and from secret to secret, and back
    for pseudonyms in (THIRD, PSEUDONYMS):
        assert archive.ingest(pseudonyms, new_secret=True).reasons == {"IDENTITY.FORGOTTEN": 2}


def test_what_is_lost_may_come_back_where_that_is_said(archive, caplog):
    made = archive.ingest(NEW, new_secret=True, forgotten_may_return=True)
    assert archive.patients(made) == {1, 2, 3, 4}
    assert "1 patients were forgotten under secret" in caplog.text


def test_shards_tell_and_carry_over_too(archive):
    form = archive.form(new_secret=True)
    shards = plan_shards(form, archive.root, BOTH)
    with pytest.raises(ConfigError, match="CRRG_OLD_HMAC_KEY"):
        decode_shard(form, shards[0], archive.root, NEW)
    assert [decode_shard(form, shard, archive.root, BOTH).num_refused for shard in shards] == [1, 0]
    archive.put("late.dcm", 5, 1)
    made = ingest(form, archive.root, NEW)
    assert (archive.patients(made), made.reasons) == ({2, 3, 4}, {"IDENTITY.FORGOTTEN": 2})


def test_a_shard_reads_no_tombstone_but_those_of_whom_it_meets(archive, monkeypatch):
    form, read, get = archive.form(new_secret=True), [], Storage.get
    shards = plan_shards(form, archive.root, BOTH)

    def noted(self, key):
        read.append(key)
        return get(self, key)

    monkeypatch.setattr(Storage, "get", noted)
    met = []
    for shard in shards:
        decode_shard(form, shard, archive.root, BOTH)
        met.append(len({key for key in read if key.startswith("control/forgotten/")}))
        read.clear()
    # the tombstone of before, and the one that follows it
    assert met == [2, 0]


@pytest.fixture
def refuse_notes(monkeypatch):
    """Let no tombstone be written, with an error."""
    put = Storage.put

    def refuse(error):
        def refused(self, key, data):
            if key.startswith("control/"):
                raise error
            put(self, key, data)

        monkeypatch.setattr(Storage, "put", refused)

    return refuse


@pytest.mark.parametrize("changes", [{"code": "DISK.FULL"}, {"retryable": True}, {}])
def test_another_failure_to_note_somebody_is_none_of_a_missing_right(archive, refuse_notes, changes):
    refuse_notes(StorageError("it takes nothing", "control/forgotten", **changes))
    with pytest.raises(StorageError, match="it takes nothing"):
        archive.ingest(BOTH, new_secret=True)


def test_an_identity_that_may_note_nobody_refuses_them_and_says_so(archive, refuse_notes, caplog):
    refuse_notes(StorageError("access denied", "control/forgotten", code=ACCESS_DENIED))
    made = archive.ingest(BOTH, new_secret=True)
    assert archive.patients(made) == {2, 3, 4}
    assert "go on giving CRRG_OLD_HMAC_KEY" in caplog.text
    archive.put("late.dcm", 5, 1)
    assert archive.ingest(BOTH).reasons == {"IDENTITY.FORGOTTEN": 2}


def test_an_archive_of_forgotten_patients_alone_carries_them_over(archive):
    for number in (2, 3, 4):
        archive.source.delete(f"{number}.dcm")
    with pytest.raises(CrrgError, match=r"none of 1 inputs was accepted: IDENTITY.FORGOTTEN 1"):
        archive.ingest(BOTH, new_secret=True)
    archive.put("5.dcm", 5, 2)
    assert archive.ingest(NEW, new_secret=True).reasons == {"IDENTITY.FORGOTTEN": 1}
