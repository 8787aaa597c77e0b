"""Schema versions: what an earlier program wrote is read, what a later one wrote is refused in clear words."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from crrg.checked_json import DIGEST, checked_json
from crrg.data.dataset.pairs import read_pairs, resolve_dataset, write_dataset
from crrg.data.dataset.reader import PairReader
from crrg.domain.study import Split
from crrg.errors import CrrgError, StorageError
from crrg.ledger.audit import check_chain, read_audit
from crrg.ledger.lease import acquire_lease, find_holder
from crrg.ledger.ledger import ledger_rows, read_ledger
from crrg.ledger.manifest import manifest_key, read_manifests
from crrg.ledger.tables import read_table, write_table
from crrg.operations.night import feed as night_feed
from crrg.operations.night.rewrite import _refused
from crrg.operations.night.watch import read_watch
from crrg.registry.bundle import bundle_digest, read_bundle
from crrg.storage import Storage, canonical_json
from tests.support.drawn_night import DATE, StandInDrafter, png_bytes, run_test_night
from tests.support.made_pairs import make_film, make_pair
from tests.support.stand_in_bundle import stand_in_bundle

KINDS = ("results", "datasets", "bundle.json")


class Written:
    """A root with one of each, and how each is read."""

    def __init__(self, folder: Path) -> None:
        self.root = Storage(str(folder / "root"))
        inbox = Storage(str(folder / "inbox"))
        inbox.put("1.png", png_bytes(1))
        run_test_night(inbox, self.root, StandInDrafter(), num_workers=0)
        pairs = [make_pair(i, film=make_film(seed=i)) for i in range(40)]
        self.dataset = write_dataset(self.root, "demo", pairs, {"image_size": 64})
        self.bundle = stand_in_bundle(self.root)
        self.keys = {
            "results": manifest_key(DATE, 1),
            "datasets": self.dataset.manifest_key,
            "bundle.json": f"{self.bundle.prefix}/bundle.json",
        }

    def change(self, kind: str, **fields: object) -> None:
        value = {**self.root.get_json(self.keys[kind]), **fields}
        value = {name: each for name, each in value.items() if each is not None or name not in fields}
        value.pop(DIGEST, None)  # earlier programs wrote none
        if kind == "bundle.json":
            value["bundle_id"] = bundle_digest(value)
        self.root.put_json(self.keys[kind], value)

    def read(self, kind: str) -> int:
        if kind == "results":
            read_ledger(self.root)
            return len(read_manifests(self.root))
        if kind == "datasets":
            return len(list(read_pairs(self.root, resolve_dataset(self.root, "demo"), Split.TRAIN)))
        return len(read_bundle(self.root, self.bundle.model_copy(update={"bundle_id": ""})).files)


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    return Written(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_newer_schema_is_refused_and_the_way_out_is_named(written, kind):
    assert written.read(kind) > 0
    for version in (5, 99, "1.1"):
        written.change(kind, schema_version=version)
        with pytest.raises(
            CrrgError, match=f"schema version (is )?{version}, this program reads 1( and 2 and 3 and 4)?; use the"
        ):
            written.read(kind)


def test_a_bundle_from_before_classifiers_were_fused_is_read(written):
    prepared = written.root.get_json(written.keys["bundle.json"])["preprocessing"]
    del prepared["image_size"]
    written.change("bundle.json", schema_version=1, fusion=None, preprocessing=prepared)
    spec = written.root.get_json(written.keys["bundle.json"])
    assert "fusion" not in spec
    assert written.read("bundle.json") > 0


def test_manifests_of_nights_from_before_the_key_was_noted_are_read(written):
    before = read_manifests(written.root)
    written.change("results", key_id=None)
    assert [manifest.key_id for manifest in read_manifests(written.root)] == [""]
    assert [manifest.digest for manifest in read_manifests(written.root)] == [before[0].digest]
    assert len(read_ledger(written.root)) == 1


@pytest.mark.parametrize("kind", ["results", "datasets"])
def test_a_field_of_a_later_program_counts_in_the_digest_of_the_manifest(written, kind):
    key = written.keys[kind]
    later = {**written.root.get_json(key), "weather": "fine"}
    written.root.put(key, checked_json(later))
    assert written.read(kind) > 0
    written.root.put_json(key, later)
    with pytest.raises(StorageError, match="the manifest is damaged"):
        written.read(kind)


def test_a_field_that_a_later_program_adds_to_the_same_schema_is_left_out(written):
    written.change("results", weather="fine")
    (manifest,) = read_manifests(written.root)
    files = [{**file.model_dump(), "weather": "fine"} for file in manifest.files]
    named = {
        "bundle": {**manifest.bundle.model_dump(), "weather": "fine"},
        "audit": {**manifest.audit.model_dump(), "x": 1},
    }
    written.change("results", files=files, **named)
    assert read_manifests(written.root) == [manifest]
    assert len(read_ledger(written.root)) == 1


def test_so_is_one_of_what_lies_beside_the_manifests_of_nights(written):
    root = written.root
    (manifest,) = read_manifests(root)
    watch = canonical_json({**root.get_json(manifest.watch_key), "weather": "fine"})
    root.put(manifest.watch_key, watch)
    written.change("results", watch_sha256=hashlib.sha256(watch).hexdigest())
    (manifest,) = read_manifests(root)
    assert read_watch(root, manifest) is not None
    entry = root.get_json(manifest.audit.key)
    root.put_json(manifest.audit.key, {**entry, "weather": "fine"})
    assert [each.action for each in read_audit(root)] == ["nightly"]
    assert check_chain(root).problems == ()
    lease = acquire_lease(root, DATE)
    root.put_json(lease.key, {**root.get_json(lease.key), "weather": "fine"})
    assert find_holder(root).fencing == lease.fencing
    lease.release()


def test_a_dataset_of_the_layout_before_row_groups_were_named_is_read(written):
    rows = [pair.instance_id for pair in read_pairs(written.root, written.dataset, Split.TRAIN)]
    manifest = written.root.get_json(written.dataset.manifest_key)
    files = [
        {name: entry[name] for name in entry if name not in ("row_groups", "footer")} for entry in manifest["files"]
    ]
    assert json.dumps(files) != json.dumps(manifest["files"])
    written.change("datasets", files=files)
    reader = PairReader(written.root, written.dataset, Split.TRAIN)
    assert [reader[number].instance_id for number in range(len(reader))] == rows
    assert [pair.instance_id for pair in read_pairs(written.root, written.dataset, Split.TRAIN)] == rows


def test_refused_objects_of_a_night_of_the_first_schema_are_kept_when_it_is_written_again(tmp_path):
    root, inbox = Storage(str(tmp_path / "root")), Storage(str(tmp_path / "inbox"))
    inbox.put("cut.dcm", b"no film")
    run_test_night(inbox, root, StandInDrafter(), num_workers=0, max_failure_rate=1)
    (manifest,) = read_manifests(root)
    (file,) = [file for file in manifest.files if file.kind == "quarantine"]
    now = read_table(root, file)
    columns = ["key_hmac", "etag", "source_digest", "study_id", "instance_id", "reason", "detail", "run_id", "version"]
    older = write_table(root, "quarantine/older.parquet", now.select(columns).replace_schema_metadata(None), file.kind)
    rows = ledger_rows(root, manifest)
    kept = _refused(root, manifest.model_copy(update={"files": (older,)}), [(row, row) for row in rows], "")
    assert kept == now.to_pylist()
    assert [(row["reason"], row["source"]) for row in kept] == [("NOT_DICOM.MARK", "inbox")]
