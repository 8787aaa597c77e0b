"""Small ledger tables put together: the ledger says the same, whatever happens in between."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from crrg.errors import Conflict
from crrg.ledger import compaction, ledger
from crrg.ledger.compaction import compact_ledger, compaction_keys
from crrg.ledger.ledger import LedgerRow, Outcome, Wanted, in_commit_order, ledger_rows, read_ledger, write_ledger
from crrg.ledger.manifest import Manifest, commit_manifest, read_manifests, seal_rewritten
from crrg.ledger.tables import TableFile
from crrg.operations.upkeep.gc import collect_garbage
from crrg.storage import Storage


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def rows_of(night: int, num_rows: int = 2) -> list[LedgerRow]:
    """Return rows of a night; the first object of every night is the same one in another version."""
    return [
        LedgerRow(f"k{night if place else 0}-{place}", f"v{night}", b"s", b"p", f"p{night}", f"st{night}",
                  f"i{night}-{place}", Outcome.ACCEPTED, "", False, "b", run_id(night), "")
        for place in range(num_rows)
    ]  # fmt: skip


def run_id(night: int) -> str:
    return f"{night:016x}"


def date(night: int) -> str:
    # later nights have earlier dates, so that the order of commits is not that of dates
    return f"2026-{12 - night // 28:02d}-{28 - night % 28:02d}"


def commit(root: Storage, night: int, rows: Sequence[LedgerRow], fencing: int = 1) -> None:
    suffix = "" if fencing == 1 else f"-{fencing}"
    file = write_ledger(root, date(night), f"{run_id(night)}{suffix}", rows)
    manifest = Manifest(date=date(night), run_id=run_id(night), fencing=fencing, files=(file,), sequence=night + 1)
    commit_manifest(root, manifest)
    seal_rewritten(root, date(night))


def manifests(root: Storage) -> list[Manifest]:
    return in_commit_order(read_manifests(root))


def by_night(root: Storage) -> list[LedgerRow]:
    """Return the rows as the nights' own tables say them."""
    return [row for manifest in manifests(root) for row in ledger_rows(root, manifest)]


def assert_says_the_same(root: Storage) -> None:
    expected, found = ledger.Ledger(by_night(root)), read_ledger(root)
    assert vars(found) == vars(expected)
    wanted = Wanted(keys=frozenset({"k0-0"}), studies=frozenset({"st3"}))
    kept = [row for row in by_night(root) if row.key_hmac == "k0-0" or row.study_id == "st3"]
    assert vars(read_ledger(root, wanted)) == vars(ledger.Ledger(kept))


def test_many_small_tables_are_read_as_one_and_stay_where_they_are(root, monkeypatch):
    for night in range(compaction.MIN_TABLES - 1):
        commit(root, night, rows_of(night))
    assert compact_ledger(root, manifests(root)) == 0
    commit(root, 31, rows_of(31))
    before = {stored.key for stored in root.list_objects()}
    assert compact_ledger(root, manifests(root)) == 32
    assert {stored.key for stored in root.list_objects()} - before == compaction_keys(root, manifests(root))
    assert_says_the_same(root)
    read: list[TableFile] = []
    real = ledger.read_table
    monkeypatch.setattr(ledger, "read_table", lambda storage, file: read.append(file) or real(storage, file))
    commit(root, 32, rows_of(32))
    read_ledger(root)
    assert [file.num_rows for file in sorted(read, key=lambda file: file.num_rows)] == [2, 64]
    assert collect_garbage(root, min_age_h=0).objects == []


@pytest.mark.parametrize("data", [b"", b'{"schema_version":1,"tab', b"[]", b'{"schema_version":1,"tables":[{}]}'])
def test_one_whose_manifest_is_damaged_counts_for_nothing_and_the_next_takes_its_place(root, monkeypatch, data):
    monkeypatch.setattr(compaction, "MIN_TABLES", 3)
    for night in range(4):
        commit(root, night, rows_of(night))
    assert compact_ledger(root, manifests(root)) == 4
    root.put("ledger/_manifest-1.json", data)
    assert_says_the_same(root)
    assert compaction_keys(root, manifests(root)) == set()
    assert compact_ledger(root, manifests(root)) == 4
    assert "ledger/_manifest-2.json" in compaction_keys(root, manifests(root))
    assert_says_the_same(root)


def test_tables_are_bounded_and_a_large_night_keeps_its_own(root, monkeypatch):
    monkeypatch.setattr(compaction, "MIN_TABLES", 4)
    monkeypatch.setattr(compaction, "MAX_ROWS", 10)
    for night, num_rows in enumerate((4, 4, 4, 7, 4)):
        commit(root, night, rows_of(night, num_rows))
    assert compact_ledger(root, manifests(root)) == 4
    tables = compaction.read_compaction(root, manifests(root))
    assert [(table.file.num_rows, len(table.runs)) for table in tables] == [(8, 2), (8, 2)]
    assert_says_the_same(root)


def test_a_run_that_is_written_again_is_read_from_its_own_table_and_the_repeated_rows_go(root, monkeypatch):
    monkeypatch.setattr(compaction, "MIN_TABLES", 4)
    for night in range(4):
        commit(root, night, rows_of(night))
    compact_ledger(root, manifests(root))
    (table,) = (key for key in compaction_keys(root, manifests(root)) if key.endswith(".parquet"))
    commit(root, 2, [replace(row, patient_id="") for row in rows_of(2)], fencing=2)
    assert compaction_keys(root, manifests(root)) == set()
    assert_says_the_same(root)
    assert table in {stored.key for stored in collect_garbage(root, min_age_h=0, remove=True).objects}
    assert not root.exists(table)
    assert_says_the_same(root)
    assert compact_ledger(root, manifests(root)) == 4
    assert_says_the_same(root)


def test_cut_off_before_its_manifest_it_leaves_only_left_overs(root, monkeypatch):
    monkeypatch.setattr(compaction, "MIN_TABLES", 4)
    for night in range(4):
        commit(root, night, rows_of(night))

    put = Storage.put_if_absent

    def killed(self: Storage, key: str, data: bytes) -> None:
        if "_manifest" in key:
            raise Conflict("another writer was first", key)
        put(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put_if_absent", killed)
        assert compact_ledger(root, manifests(root)) == 0
    assert compaction_keys(root, manifests(root)) == set()
    (left,) = collect_garbage(root, min_age_h=0).objects
    assert left.key.startswith("ledger/_compacted-")
    assert_says_the_same(root)
    assert compact_ledger(root, manifests(root)) == 4
    assert collect_garbage(root, min_age_h=0).objects == []


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_order_of_commits_rewrites_compactions_and_collections(root, monkeypatch, seed):
    monkeypatch.setattr(compaction, "MIN_TABLES", 3)
    monkeypatch.setattr(compaction, "MAX_ROWS", 12)
    draw, fencing = random.Random(seed), {}
    for _ in range(40):
        what = draw.choice(("commit", "commit", "compact", "rewrite", "collect"))
        if what == "commit":
            commit(root, len(fencing), rows_of(len(fencing), draw.randint(1, 7)))
            fencing[len(fencing)] = 1
        elif what == "rewrite" and fencing:
            night = draw.choice(list(fencing))
            fencing[night] += 1
            commit(root, night, rows_of(night, draw.randint(0, 3)), fencing[night])
        elif what == "compact":
            compact_ledger(root, manifests(root))
        elif what == "collect":
            collect_garbage(root, min_age_h=0, remove=True)
        assert_says_the_same(root)
