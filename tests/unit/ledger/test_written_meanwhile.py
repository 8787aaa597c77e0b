"""Readers of the ledger while nights are written again, sealed and compacted: none is missed, none ends in an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crrg.errors import StorageError
from crrg.ledger.compaction import MANIFESTS, TABLES, compact_ledger, read_compaction
from crrg.ledger.ledger import LedgerRow, Outcome, in_commit_order, read_ledger, write_ledger
from crrg.ledger.manifest import Manifest, commit_manifest, manifest_key, night_prefix, read_manifests, seal_rewritten
from crrg.storage import Storage

DATE, RUN = "2026-11-20", "0123456789abcdef"


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def commit(root: Storage, fencing: int = 1, date: str = DATE, sequence: int = 1) -> None:
    row = LedgerRow(
        f"k{date}", "v", b"s", b"p", "p", "st", f"i{date}", Outcome.ACCEPTED, "", False, "b", RUN + date, date
    )
    file = write_ledger(root, date, f"{RUN}-{fencing}", [row])
    commit_manifest(root, Manifest(date=date, run_id=RUN + date, fencing=fencing, files=(file,), sequence=sequence))


def write_again(root: Storage, fencing: int) -> None:
    commit(root, fencing)
    seal_rewritten(root, DATE)
    root.delete(f"ledger/date={DATE}/{RUN}-{fencing - 1}.parquet")


def once(monkeypatch: pytest.MonkeyPatch, name: str, prefix: str, happens: Callable[[], None], *, before: bool) -> None:
    """Let something happen right before or after the first time that a method of a store is called with a prefix."""
    method, calls = getattr(Storage, name), [happens]

    def called(self: Storage, key: str = "", *rest: object) -> object:
        is_due = bool(calls) and key.startswith(prefix)
        happening = calls.pop() if is_due else lambda: None
        if before:
            happening()
        result = method(self, key, *rest)
        if not before:
            happening()
        return result

    monkeypatch.setattr(Storage, name, called)


def test_a_night_that_is_written_again_after_it_was_listed_is_read(root, monkeypatch):
    commit(root)
    once(monkeypatch, "list_folder", night_prefix(DATE), lambda: write_again(root, 2), before=False)
    assert [each.fencing for each in read_manifests(root)] == [2]


def test_a_listed_manifest_that_is_gone_is_listed_again(root, monkeypatch):
    commit(root)

    def moves() -> None:
        commit(root, 2)
        root.delete(manifest_key(DATE, 1))

    once(monkeypatch, "list_folder", night_prefix(DATE), moves, before=False)
    assert [each.fencing for each in read_manifests(root)] == [2]


def test_a_manifest_that_is_listed_and_cannot_be_read_is_an_error(root, monkeypatch):
    commit(root)
    get = Storage.get

    def denied(self: Storage, key: str) -> bytes:
        if key == manifest_key(DATE, 1):
            raise StorageError("access is denied", key)
        return get(self, key)

    monkeypatch.setattr(Storage, "get", denied)
    with pytest.raises(StorageError, match="denied"):
        read_manifests(root)


def test_a_ledger_whose_night_is_written_again_while_it_is_read_is_read(root, monkeypatch):
    commit(root)
    once(monkeypatch, "get_verified", "ledger/", lambda: write_again(root, 2), before=True)
    assert read_ledger(root).find(f"k{DATE}", "v") is not None


def test_a_ledger_table_that_is_lost_is_an_error(root):
    commit(root)
    root.delete(f"ledger/date={DATE}/{RUN}-1.parquet")
    with pytest.raises(StorageError, match="no such object"):
        read_ledger(root)


@pytest.fixture
def compacted(root: Storage, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr("crrg.ledger.compaction.MIN_TABLES", 2)
    for sequence, date in enumerate((DATE, "2026-11-21", "2026-11-22"), 1):
        commit(root, date=date, sequence=sequence)
    assert compact_ledger(root, in_commit_order(read_manifests(root))) == 3
    return root


def all_rows(root: Storage) -> list[bool]:
    ledger = read_ledger(root)
    return [ledger.find(f"k{date}", "v") is not None for date in (DATE, "2026-11-21", "2026-11-22")]


def test_a_compaction_that_goes_after_it_was_listed_keeps_no_reader(compacted, monkeypatch):
    """Rewritten runs make a compaction a left-over, which ``crrg gc`` removes."""
    listed = [key for key in (stored.key for stored in compacted.list_objects("ledger")) if key.startswith(MANIFESTS)]
    once(monkeypatch, "list_folder", "ledger", lambda: compacted.delete(listed[0]), before=False)
    assert all_rows(compacted) == [True] * 3
    assert read_compaction(compacted, read_manifests(compacted)) == ()


def test_a_compacted_table_that_goes_meanwhile_keeps_no_reader(compacted, monkeypatch):
    def goes() -> None:
        for stored in compacted.list_objects("ledger"):
            if stored.key.startswith((TABLES, MANIFESTS)):
                compacted.delete(stored.key)

    once(monkeypatch, "get_verified", TABLES, goes, before=True)
    assert all_rows(compacted) == [True] * 3
