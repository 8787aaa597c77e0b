from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.errors import StorageError
from crrg.ledger import audit
from crrg.ledger.audit import check_chain, read_audit, write_audit
from crrg.ledger.manifest import read_manifests
from crrg.operations.upkeep.audit import check_markdown, entries_markdown, verify_audit
from crrg.storage import Storage
from tests.support.drawn_night import StandInDrafter, png_bytes, run_test_night


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path / "root"))
    for number in range(5):
        write_audit(storage, "gc", counts={"objects": number})
    return storage


def edited(storage: Storage, number: int, **changes: object) -> None:
    key = f"audit/{number:08d}.json"
    storage.put_json(key, {**storage.get_json(key), **changes})


def test_entries_say_who_what_and_when_in_order(root, monkeypatch):
    served = Storage(root.root, Settings(principal="night service").storage)
    monkeypatch.setenv("CRRG_PRINCIPAL", "read by nobody down here")
    write_audit(served.at(root.root), "deliver", subject="x", bundle_id="b" * 32, writes={"k": "0" * 64})
    entries = read_audit(root)
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.counts.get("objects") for entry in entries] == [0, 1, 2, 3, 4, None]
    assert entries[-1].actor == "night service"
    assert entries[0].actor not in ("", "night service")
    assert read_audit(root, entries[0].at_utc[:10]) == entries
    assert read_audit(root, "1999-01-01") == []
    assert "night service" in entries_markdown(entries)
    check = verify_audit(root)
    assert (check.num_entries, check.problems) == (6, ())
    assert "complete" in check_markdown(check)


def test_an_empty_audit_is_whole(tmp_path):
    none = verify_audit(Storage(str(tmp_path / "none")))
    assert none.problems == ()
    assert check_markdown(none).startswith("The audit log has no entry yet: nothing was verified.")


@pytest.mark.parametrize("number", [1, 3, 5])
def test_an_edit_is_told(root, number):
    head = check_chain(root).head.sha256
    edited(root, number, actor="somebody else")
    problems = verify_audit(root, head).problems
    assert problems, "an edited entry breaks the next one's link, the last one breaks the remembered head"


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_removal_is_told(root, number):
    head = check_chain(root).head.sha256
    root.delete(f"audit/{number:08d}.json")
    check = verify_audit(root, head)
    assert check.problems
    assert "tampered" in check_markdown(check)


def test_an_insertion_is_told(root):
    content = root.get_json("audit/00000003.json")
    root.put("audit/00000003-b.json", json.dumps(content).encode())
    assert any("something else put it there" in problem for problem in verify_audit(root).problems)
    root.delete("audit/00000003-b.json")
    for number in (5, 4, 3):
        root.put(f"audit/{number + 1:08d}.json", root.get(f"audit/{number:08d}.json"))
    assert any("says it is" in problem for problem in verify_audit(root).problems)


def test_a_chain_rewritten_from_an_entry_on_is_told_by_the_remembered_head(root):
    head = check_chain(root).head.sha256
    for number in (4, 5):
        root.delete(f"audit/{number:08d}.json")
    audit._heads.clear()
    for number in (3, 4):
        write_audit(root, "gc", counts={"objects": number})
    assert verify_audit(root).problems == ()
    assert verify_audit(root, head).problems != ()


def test_many_writers_make_one_chain(tmp_path):
    storage = Storage(str(tmp_path / "root"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_audit(storage, "gc", counts={"objects": number}), range(40)))
    entries = read_audit(storage)
    assert sorted(entry.counts["objects"] for entry in entries) == list(range(40))
    assert verify_audit(storage).problems == ()


def test_a_night_is_audited_before_it_is_committed_and_named_by_its_manifest(tmp_path, monkeypatch):
    monkeypatch.setattr("crrg.operations.night.feed.default_num_workers", lambda: 0)
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    inbox.put("1.png", png_bytes(1))

    def out_of_reach(*_args: object, **_values: object) -> None:
        raise StorageError("no", "audit")

    with monkeypatch.context() as patched:
        patched.setattr("crrg.operations.upkeep.audit.write_audit", out_of_reach)
        with pytest.raises(StorageError):
            run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    assert read_manifests(root) == []
    run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    (manifest,), (sealed, entry) = read_manifests(root), read_audit(root)
    assert (sealed.action, manifest.audit.number, entry.number) == ("seal", 2, 2)
    assert entry.writes[manifest.index_key] == manifest.index_sha256
    assert {file.key for file in manifest.files} < set(entry.writes)
    assert entry.counts == {"inputs": 1, "accepted": 1, "quarantined": 0, "pending": 0}
    assert verify_audit(root).num_anchors == 1
    assert verify_audit(root).problems == ()

    # without it nothing in the chain is missing, and the manifest tells
    root.delete(manifest.audit.key)
    assert any("is not the one" in problem for problem in verify_audit(root).problems)
