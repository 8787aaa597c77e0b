"""What keeps a night from beginning."""

from __future__ import annotations

from pathlib import Path

import pytest

from crrg import local_files
from crrg.errors import StorageError
from crrg.ledger.audit import check_chain
from crrg.ledger.manifest import read_manifests
from crrg.local_files import DISK_FULL
from crrg.operations.night_checks import check_rights, check_room
from crrg.storage import Storage
from tests.support.drawn_night import DATE, StandInDrafter, png_bytes, run_test_night


@pytest.fixture
def inbox(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path / "inbox"))
    storage.put("1.png", png_bytes(1))
    return storage


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


@pytest.mark.parametrize("prefix", ["results/", "ledger/", "quarantine/"])
def test_prefix_that_may_not_be_written_stops_the_night_before_any_work(inbox, root, monkeypatch, prefix):
    put = Storage.put

    def put_where_allowed(self: Storage, key: str, data: bytes) -> None:
        if key.startswith(prefix):
            raise StorageError("PutObject on s3://bucket is denied", key)
        put(self, key, data)

    monkeypatch.setattr(Storage, "put", put_where_allowed)
    drafter = StandInDrafter()
    with pytest.raises(StorageError, match="PutObject"):
        run_test_night(inbox, root, drafter, num_workers=0)
    assert drafter.num_drafted == 0
    assert root.list_objects("results") == []
    assert root.list_objects(f"leases/date={DATE}") == []


def test_audit_that_may_not_be_added_to_stops_the_night_before_any_work(inbox, root, monkeypatch):
    put = Storage.put_if_absent

    def put_where_allowed(self: Storage, key: str, data: bytes) -> None:
        if key.startswith("audit/"):
            raise StorageError("PutObject on s3://bucket is denied", key)
        put(self, key, data)

    monkeypatch.setattr(Storage, "put_if_absent", put_where_allowed)
    drafter = StandInDrafter()
    with pytest.raises(StorageError, match="PutObject"):
        run_test_night(inbox, root, drafter, num_workers=0)
    assert drafter.num_drafted == 0
    assert root.list_objects("results") == []


def test_other_probe_in_the_audit_keeps_no_night_from_beginning(inbox, root):
    root.put("audit/probe", b"of another version")
    assert run_test_night(inbox, root, StandInDrafter(), num_workers=0).status == "committed"
    assert root.get("audit/probe") == b"of another version"


def test_probe_that_may_not_be_removed_breaks_no_chain_of_the_audit(inbox, root, monkeypatch):
    def denied(self: Storage, key: str) -> None:
        raise StorageError("DeleteObject is denied", key)

    monkeypatch.setattr(Storage, "delete", denied)
    for date in (DATE, "2026-11-21"):
        run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=date)
        inbox.put("2.png", png_bytes(2))
    assert root.exists("audit/probe")
    chain = check_chain(root)
    assert (len(chain.entries), chain.problems) == (2, ())


def test_probes_leave_nothing_behind(inbox, root):
    check_rights(DATE, root, inbox, [], [])
    assert root.list_objects() == []


def test_inbox_that_may_be_listed_but_not_read_stops_the_night(inbox, root, monkeypatch):
    def denied(self: Storage, key: str, start: int, end: int) -> bytes:
        raise StorageError("GetObject on s3://inbox is denied", key)

    monkeypatch.setattr(Storage, "get_range", denied)
    with pytest.raises(StorageError, match="GetObject"):
        run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    assert read_manifests(root) == []


def test_disk_without_room_stops_the_night_before_any_work(inbox, root, monkeypatch):
    check_room(10, 512, root)
    monkeypatch.setattr(local_files, "free_bytes", lambda _place: 50_000)
    with pytest.raises(StorageError, match=DISK_FULL) as caught:
        run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    assert caught.value.code == DISK_FULL
    assert root.list_objects("results") == []
    check_room(10**9, 512, Storage("s3://bucket/root"))  # a bucket does not say
