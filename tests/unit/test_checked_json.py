"""A damaged manifest that is still valid JSON is not believed, by the next night or by anybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crrg.checked_json import DIGEST, checked_json, parse_checked
from crrg.data.dataset.pairs import read_pairs, resolve_dataset, write_dataset
from crrg.domain.study import Split
from crrg.errors import StorageError
from crrg.ledger.compaction import compact_ledger, read_compaction
from crrg.ledger.manifest import manifest_key, read_manifests
from crrg.operations.night import feed as night_feed
from crrg.storage import Storage
from tests.support.drawn_night import DATE, StandInDrafter, png_bytes, run_test_night
from tests.support.made_pairs import make_film, make_pair


def nothing(_value: object) -> None:
    pass


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Return the root of a night over one film; the inbox lies beside it."""
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    inbox.put("1.png", png_bytes(1))
    run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    return root


def test_what_was_written_is_read_and_anything_else_is_not() -> None:
    value: dict[str, Any] = {"b": 0.1, "a": [1, {"c": None}], "ü": "é"}
    data = checked_json(value)
    assert parse_checked(data, nothing) == value
    assert checked_json(json.loads(data)) == data
    for changed in ({**value, "b": 0.2}, {**value, "a": []}, {"b": 0.1}, {**value, "more": 1}):
        with pytest.raises(ValueError, match="not what was written"):
            parse_checked(json.dumps({**changed, DIGEST: json.loads(data)[DIGEST]}).encode(), nothing)
    for data in (b"[]", b'{"a": 1', b'{"content_sha256": 3}'):
        with pytest.raises(ValueError):
            parse_checked(data, nothing)


def test_an_object_of_before_digests_is_read_as_it_is() -> None:
    assert parse_checked(b'{"a": 1}', nothing) == {"a": 1}


@pytest.mark.parametrize("field", ["num_accepted", "sequence", "files", "digest", "status", "run_id"])
def test_a_night_goes_by_no_manifest_that_was_damaged(root: Storage, tmp_path: Path, field: str) -> None:
    key, inbox = manifest_key(DATE, 1), Storage(str(tmp_path / "inbox"))
    whole = root.get(key)
    other = {"num_accepted": 7, "sequence": 3, "files": [], "digest": "0" * 64, "status": "sealed", "run_id": "0"}
    root.put_json(key, {**json.loads(whole), field: other[field]})
    with pytest.raises(StorageError, match="the manifest is damaged; restore it from a backup"):
        read_manifests(root)
    inbox.put("2.png", png_bytes(2))
    with pytest.raises(StorageError, match="damaged"):
        run_test_night(inbox, root, StandInDrafter(), date="2026-11-21", num_workers=0)
    root.put(key, whole)
    summary = run_test_night(inbox, root, StandInDrafter(), date="2026-11-21", num_workers=0)
    assert (summary.status, summary.num_inputs) == ("committed", 1)


def test_no_flipped_bit_of_a_manifest_is_believed(root: Storage) -> None:
    key = manifest_key(DATE, 1)
    whole, (before,) = root.get(key), read_manifests(root)
    for place in range(0, len(whole), 7):
        root.put(key, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            found = read_manifests(root)
        except StorageError:
            continue
        assert found == [before], f"bit of byte {place}: {whole[max(0, place - 20) : place + 20]!r}"


def test_a_damaged_manifest_of_a_dataset_is_refused(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    ref = write_dataset(storage, "demo", [make_pair(1, film=make_film())], {"image_size": 64})
    manifest = storage.get_json(ref.manifest_key)
    storage.put_json(ref.manifest_key, {**manifest, "num_rows": {**manifest["num_rows"], "train": 2}})
    with pytest.raises(StorageError, match="damaged; restore it from a backup, or ingest again"):
        resolve_dataset(storage, "demo")
    with pytest.raises(StorageError, match="damaged"):
        next(read_pairs(storage, ref, Split.TRAIN))


def test_a_damaged_compaction_is_left_alone(root: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crrg.ledger.compaction.MIN_TABLES", 1)
    manifests = read_manifests(root)
    assert compact_ledger(root, manifests) == 1
    key = "ledger/_manifest-1.json"
    assert len(read_compaction(root, manifests)) == 1
    value = root.get_json(key)
    value["tables"][0]["file"]["num_rows"] += 1
    root.put_json(key, value)
    assert read_compaction(root, manifests) == ()
