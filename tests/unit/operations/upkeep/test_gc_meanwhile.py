"""Garbage collection while nights are committed and written again: nothing goes that counts by then."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from crrg.ledger.lease import acquire_lease
from crrg.ledger.manifest import commit_manifest, night_prefix, read_manifests, seal_rewritten
from crrg.operations.night import feed as night_feed
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.nightly import plan_night, release_night
from crrg.operations.upkeep import gc
from crrg.operations.upkeep.gc import collect_garbage, named_by
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, DATE, PSEUDONYMS, StandInDrafter, fill_inbox, night_config, run_test_night


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    store = Storage(str(tmp_path / "inbox"))
    fill_inbox(store, 3)
    return store


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def keys(root: Storage) -> set[str]:
    return {stored.key for stored in root.list_objects()}


def write_again(root: Storage) -> None:
    """Commit the night under a higher number, as it is."""
    lease = acquire_lease(root, DATE)
    assert lease is not None
    (manifest,) = read_manifests(root)
    commit_manifest(root, manifest.model_copy(update={"fencing": lease.fencing}))
    seal_rewritten(root, DATE)
    lease.release()


def assert_whole(root: Storage) -> None:
    """Check that the one night of a root has all that its manifest names."""
    (manifest,) = read_manifests(root)
    assert named_by(root, manifest) <= keys(root)
    assert check_nights(root).is_good


def test_a_night_that_is_written_again_while_it_is_read_stays(inbox, root, monkeypatch):
    run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    listed, pending = Storage.list_folder, [write_again]

    def then(self: Storage, prefix: str = "") -> list[str]:
        names = listed(self, prefix)
        if prefix == night_prefix(DATE) and pending:
            pending.pop()(root)
        return names

    monkeypatch.setattr(Storage, "list_folder", then)
    collect_garbage(root, min_age_h=0, remove=True)
    assert_whole(root)


def test_a_night_that_is_taken_up_and_commits_after_the_manifests_were_read_stays(inbox, root, monkeypatch):
    release_night(plan_night(night_config(inbox), root, BUNDLE, PSEUDONYMS), root)
    open_plans, pending = gc.open_plans, [1]

    def then(date: str, storage: Storage) -> object:
        if pending:
            pending.clear()
            run_test_night(inbox, root, StandInDrafter(), num_workers=0)
            # most of it was drafted before it was cut off
            for stored in root.list_objects():
                os.utime(root.url(stored.key), (time.time() - 3600,) * 2)
        return open_plans(date, storage)

    monkeypatch.setattr(gc, "open_plans", then)
    collect_garbage(root, min_age_h=0, remove=True)
    assert_whole(root)


def test_what_is_written_again_after_it_was_listed_stays(root, monkeypatch):
    part, stray = (f"datasets/demo/version=0a/split=train/part-0000{number}.parquet" for number in (0, 1))
    for key in (part, stray):
        root.put(key, b"left by an ingest that was cut off")
        os.utime(root.url(key), (time.time() - 3 * 86400,) * 2)
    look, looks = gc._commits, []

    def then(storage: Storage) -> object:
        looks.append(storage)
        if len(looks) == 2:
            # the same ingest is run again; its commit comes later
            root.put(part, b"left by an ingest that was cut off")
        return look(storage)

    monkeypatch.setattr(gc, "_commits", then)
    removed = collect_garbage(root, remove=True)
    assert [stored.key for stored in removed.objects] == [stray]
    assert part in keys(root)


def test_what_lies_in_a_night_that_somebody_holds_stays(root):
    """A removal or a mark that was cut off finds what it wrote before, and names it only when it commits."""
    mine = {f"results/date={DATE}/run=01ab/reports-00000-2.parquet", "ledger/_compacted-01ab.parquet"}
    mine |= {f"{table}/date={DATE}/01ab-2.parquet" for table in ("ledger", "quarantine")}
    other = "results/date=2026-11-01/run=01ab/half.parquet"
    for key in (*mine, other):
        root.put(key, b"left")
    lease = acquire_lease(root, DATE)
    assert lease is not None
    removed = collect_garbage(root, min_age_h=0, remove=True)
    assert [stored.key for stored in removed.objects] == [other]
    lease.release()
    removed = collect_garbage(root, min_age_h=0, remove=True)
    assert {stored.key for stored in removed.objects} == mine


def test_a_night_that_commits_between_two_deletions_stays(inbox, root, monkeypatch):
    run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    stray = [f"results/date={DATE}/run=0123456789abcdef/{number}.parquet" for number in range(4)]
    for key in stray:
        root.put(key, b"half")
    delete, pending = Storage.delete, [1]

    def then(self: Storage, key: str) -> None:
        delete(self, key)
        if pending and key == stray[0]:
            pending.clear()
            (manifest,) = read_manifests(root)
            own = {"run_id": "0123456789abcdef", "fencing": 9, "index_key": "", "watch_key": stray[3], "files": ()}
            commit_manifest(root, manifest.model_copy(update=own))

    monkeypatch.setattr(gc, "AT_ONCE", 2)
    monkeypatch.setattr(Storage, "delete", then)
    removed = collect_garbage(root, min_age_h=0, remove=True)
    assert stray[3] in keys(root)
    assert stray[2] not in keys(root)
    assert stray[3] not in {stored.key for stored in removed.objects}
    assert removed.num_bytes == sum(stored.size for stored in removed.objects)
