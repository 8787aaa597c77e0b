"""A backup holds what is believed, verified; a restored root gives the same digest and goes on without redoing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from crrg.data.dataset.pairs import read_pairs, resolve_dataset, write_dataset
from crrg.domain.acquisition import Acquisition
from crrg.domain.study import Split
from crrg.errors import ConfigError, DigestMismatch, StorageError
from crrg.ledger.audit import read_audit, write_audit
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.nightly import plan_night, release_night
from crrg.operations.upkeep.audit import verify_audit
from crrg.operations.upkeep.backup import LIST_KEY, back_up, restore
from crrg.operations.upkeep.gc import named_by
from crrg.registry.aliases import record_alias, recorded_alias
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, fill_inbox, night_config, run_test_night
from tests.support.made_pairs import make_film, make_pair
from tests.support.stand_in_bundle import stand_in_bundle

KNOWN = Acquisition("F", "40-59", "agfa")


class Place:
    """A root with a night, a dataset, a bundle, an audit entry and a tracking database."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        self.copy, self.other = Storage(str(folder / "copy")), Storage(str(folder / "elsewhere" / "root"))
        fill_inbox(self.inbox, 3)
        self.night(self.root)
        pairs = [replace(make_pair(i, film=make_film(seed=i)), acquisition=KNOWN) for i in range(3)]
        write_dataset(self.root, "demo", pairs, {"image_size": 64})
        self.bundle = stand_in_bundle(self.root)
        record_alias(self.root, "champion", self.bundle)
        self.root.put_json("models/scorecards/old.json", {})
        write_audit(self.root, "test")
        with closing(sqlite3.connect(self.root.url("mlflow.db"))) as database:
            database.execute("create table runs (name text)")
            database.commit()
        self.root.put("demo.key", b"secret")
        self.root.put("checkpoints/clip/01/state-00000001.safetensors", b"state")
        self.root.put("results/date=2026-11-20/run=0123456789abcdef/reports-00000.parquet", b"half")

    def night(self, root, drafter=None, **changes):
        return run_test_night(self.inbox, root, drafter or StandInDrafter(), num_workers=0, **changes)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    return Place(tmp_path)


def keys(store):
    return {stored.key for stored in store.list_objects()}


def test_a_restored_root_gives_the_same_digest_and_runs_the_next_night_without_redoing_anything(place):
    digest = committed_digest(place.root)
    done = back_up(place.root, place.copy.root)
    assert done.num_copied == done.num_objects > 20
    place.other.put(".prefect/prefect.db", b"left by a command that failed here")
    again = restore(place.other, place.copy.root)
    assert (again.num_objects, again.num_copied, again.num_bytes) == (done.num_objects,) * 2 + (done.num_bytes,)
    assert committed_digest(place.other) == digest
    assert recorded_alias(place.other, "champion") == place.bundle
    assert read_bundle(place.other, place.bundle).bundle_id == place.bundle.bundle_id
    assert read_audit(place.other)[:-1] == read_audit(place.root)
    assert [entry.action for entry in read_audit(place.other)] == ["nightly", "test", "backup", "restore"]
    assert verify_audit(place.other).problems == ()
    assert restore(place.other, place.copy.root).num_copied == 0
    assert len(read_audit(place.other)) == 4
    pairs = read_pairs(place.other, resolve_dataset(place.other, "demo"), Split.TRAIN)
    assert [pair.acquisition for pair in pairs] == [KNOWN] * 3
    with closing(sqlite3.connect(place.other.url("mlflow.db"))) as database:
        assert database.execute("select count(*) from runs").fetchall() == [(0,)]
    assert place.night(place.other, date="2026-11-21").status == "nothing_new"
    place.inbox.put("new.png", Storage(place.inbox.root).get("study-00/film.png")[:-1] + b"x")
    drafter = StandInDrafter()
    assert place.night(place.other, drafter, date="2026-11-21").num_inputs == 1
    # a root that went on is not overwritten
    with pytest.raises(ConfigError, match=r"the root is not empty .*; restore into an empty root \(--root NEW\)"):
        restore(place.other, place.copy.root)


def test_left_overs_secrets_and_unfinished_work_are_left_out(place):
    plan = plan_night(night_config(place.inbox, date="2026-11-22", limit=0), place.root, BUNDLE, PSEUDONYMS)
    release_night(plan, place.root)
    place.root.put("results/date=2026-11-23/run=aaaaaaaaaaaaaaaa/plan/plan.json", b"{}")
    place.root.put("control/STOP", b"")
    place.root.put(".prefect/prefect.db", b"")
    place.root.put(".prefect/storage/0123", b"")
    back_up(place.root, place.copy.root)
    missing = keys(place.root) - keys(place.copy)
    left_out = {"demo.key", ".prefect", "control", "checkpoints", "results", "spool"}
    assert {key.split("/")[0] for key in missing} == left_out
    assert not any("manifest" in key or "/documents/" in key for key in missing)
    (manifest,) = read_manifests(place.root)
    assert missing.isdisjoint(named_by(place.root, manifest))


def test_a_second_backup_copies_what_is_new_and_drops_what_is_gone(place):
    first = back_up(place.root, place.copy.root)
    assert back_up(place.root, place.copy.root).num_copied == 1  # the audit's entry of this very backup
    place.inbox.put("late.png", place.inbox.get("study-00/film.png") + b"\0")
    place.night(place.root, date="2026-11-21")
    place.root.delete("models/scorecards/old.json")
    second = back_up(place.root, place.copy.root)
    assert 0 < second.num_copied < first.num_objects
    assert second.num_removed == 1
    restore(place.other, place.copy.root)
    assert committed_digest(place.other) == committed_digest(place.root)


def test_a_backup_that_was_cut_off_is_no_backup_and_goes_on(place, monkeypatch):
    num_done, put = 0, Storage.put

    def cut(self, key, data):
        nonlocal num_done
        if self.root == place.copy.root and num_done > 12:
            raise KeyboardInterrupt
        num_done += self.root == place.copy.root
        put(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put", cut)
        with pytest.raises(KeyboardInterrupt):
            back_up(place.root, place.copy.root)
    with pytest.raises(ConfigError, match="no finished backup"):
        restore(place.other, place.copy.root)
    done = back_up(place.root, place.copy.root)
    assert 0 < done.num_copied < done.num_objects
    restore(place.other, place.copy.root)
    assert committed_digest(place.other) == committed_digest(place.root)


def test_a_night_that_commits_while_the_root_is_listed_is_in_the_next_backup(place, monkeypatch):
    """A store lists in pages, in the order of keys: the ledger of a night before, its manifest after its commit."""
    digest, listed, num_calls = committed_digest(place.root), Storage.list_objects, 0

    def in_pages(self, prefix=""):
        nonlocal num_calls
        num_calls += self.root == place.root.root and not prefix
        if num_calls != 1 or prefix:
            return listed(self, prefix)
        num_calls += 1
        before = [each for each in listed(self) if each.key < "results/"]
        place.inbox.put("late.png", place.inbox.get("study-00/film.png") + b"\0")
        place.night(place.root, date="2026-11-21")
        return before + [each for each in listed(self) if each.key >= "results/"]

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "list_objects", in_pages)
        back_up(place.root, place.copy.root)
    assert len(read_manifests(place.root)) == 2
    restore(place.other, place.copy.root)
    assert committed_digest(place.other) == digest
    for manifest in read_manifests(place.other):
        assert named_by(place.other, manifest) - {""} <= keys(place.other)
    back_up(place.root, place.copy.root)
    assert len(read_manifests(place.copy)) == 2


def test_what_is_removed_while_the_root_is_listed_is_said(place, monkeypatch):
    listed = Storage.list_objects
    (manifest,) = read_manifests(place.root)

    def without_ledger(self, prefix=""):
        return [each for each in listed(self, prefix) if prefix or not each.key.startswith("ledger/date=")]

    monkeypatch.setattr(Storage, "list_objects", without_ledger)
    with pytest.raises(StorageError, match="1 objects that manifests name were removed") as error:
        back_up(place.root, place.copy.root)
    assert error.value.retryable
    assert error.value.subject in named_by(place.root, manifest)


def test_damage_is_found_on_both_ways(place, tmp_path):
    back_up(place.root, place.copy.root)
    for name in ("part-00000.parquet", "_acquisition.parquet"):
        (key, *_) = [key for key in keys(place.copy) if key.endswith(name)]
        whole = place.root.get(key)
        place.copy.put(key, b"damaged")
        with pytest.raises(DigestMismatch):
            restore(Storage(str(tmp_path / name)), place.copy.root)
        place.root.put(key, b"damaged")
        with pytest.raises(DigestMismatch):
            back_up(place.root, place.copy.root)
        for store in (place.root, place.copy):
            store.put(key, whole)


def test_a_place_that_is_in_use_is_refused(place):
    for elsewhere in (place.root.url("backup"), place.root.root, str(Path(place.root.root).parent)):
        with pytest.raises(ConfigError, match="nested in each other; give it another bucket, prefix or folder"):
            back_up(place.root, elsewhere)
    with pytest.raises(ConfigError, match="other than a backup; give an empty one"):
        back_up(place.root, place.inbox.root)
    assert not place.inbox.exists(LIST_KEY)
