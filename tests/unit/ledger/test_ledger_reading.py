"""What of the ledger is read, and in which order commits count."""

from __future__ import annotations

from pathlib import Path

import pytest

from crrg.config.references import BundleRef
from crrg.ledger.ledger import LedgerRow, Outcome, Wanted, read_ledger, write_ledger
from crrg.ledger.manifest import Manifest, commit_manifest, next_sequence, read_manifests
from crrg.storage import Storage


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def row(key: str, run_id: str, date: str, **changes: object) -> LedgerRow:
    values = {
        "key_hmac": key,
        "etag": "v1",
        "source_digest": b"s",
        "pixel_digest": b"p",
        "patient_id": "P",
        "study_id": f"study-{key}",
        "instance_id": f"image-{key}",
        "outcome": Outcome.ACCEPTED,
        "reason": "",
        "is_carried": False,
        "bundle_id": "b",
        "run_id": run_id,
        "date": date,
    }
    return LedgerRow(**{**values, **changes})


def commit(root: Storage, date: str, run_id: str, rows: list[LedgerRow], committed_utc: str) -> None:
    file = write_ledger(root, date, run_id, rows)
    manifest = Manifest(
        date=date,
        run_id=run_id,
        fencing=1,
        bundle=BundleRef(bundle_id="b", prefix="p"),
        files=(file,),
        committed_utc=committed_utc,
        sequence=next_sequence(read_manifests(root)),
    )
    commit_manifest(root, manifest)


def test_only_rows_that_are_asked_for_are_kept(root):
    commit(root, "2026-11-20", "one", [row(key, "one", "2026-11-20") for key in "abcd"], "2026-11-20T01:00:00")
    wanted = Wanted(
        keys=frozenset({"a", "x"}), instances=frozenset({"image-b"}), studies=frozenset({"study-c", "study-y"})
    )
    ledger = read_ledger(root, wanted)
    assert len(ledger) == 3
    assert ledger.find("a", "v1") is not None
    assert ledger.find_draft("image-b") is not None
    assert [each.key_hmac for each in ledger.find_drafts_of("study-c")] == ["c"]
    assert ledger.find("d", "v1") is None
    assert len(read_ledger(root, Wanted())) == 0
    assert len(read_ledger(root)) == 4


def test_order_of_commits_is_their_number_whatever_the_clocks_say(root):
    commit(root, "2026-11-21", "first", [row("a", "first", "2026-11-21")], "2026-11-22T09:00:00")
    commit(root, "2026-11-20", "second", [row("a", "second", "2026-11-20")], "2026-11-21T01:00:00")
    assert next_sequence(read_manifests(root)) == 3
    last = read_ledger(root).find("a", "v1")
    assert last is not None
    assert last.run_id == "second"
