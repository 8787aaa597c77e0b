"""What no commit names goes; what a commit names, what is young, and a night that can be gone on with stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from crrg.config.data import IngestConfig
from crrg.errors import ConfigError, DigestMismatch, StorageError
from crrg.ledger.audit import read_audit
from crrg.ledger.lease import acquire_lease, find_holder
from crrg.ledger.manifest import read_manifests
from crrg.operations.ingest.ingest import ingest
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.nightly import plan_night, release_night
from crrg.operations.night.summary import note_told
from crrg.operations.upkeep.gc import collect_garbage
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, TrainingState
from tests.support.drawn_night import (
    BUNDLE,
    DATE,
    PSEUDONYMS,
    StandInDrafter,
    fill_inbox,
    night_config,
    png_bytes,
    run_test_night,
)


@pytest.fixture
def inbox(tmp_path):
    store = Storage(str(tmp_path / "inbox"))
    fill_inbox(store, 3)
    return store


@pytest.fixture
def root(tmp_path, inbox):
    store = Storage(str(tmp_path / "root"))
    run_test_night(inbox, store, StandInDrafter())
    return store


def keys(root):
    return {stored.key for stored in root.list_objects()}


def named(root):
    (manifest,) = read_manifests(root, DATE)
    return {manifest.index_key, *root.get_json(manifest.index_key), *(file.key for file in manifest.files)}


def test_scaffolding_of_a_committed_night_goes_and_its_results_stay(root):
    digest, before = committed_digest(root, ""), keys(root)
    found = collect_garbage(root, min_age_h=0)
    assert found.objects
    assert not found.is_removed
    assert keys(root) == before
    assert {stored.key for stored in found.objects} & named(root) == set()
    removed = collect_garbage(root, min_age_h=0, remove=True)
    assert removed.is_removed
    assert keys(root) >= named(root)
    assert not any("/plan/" in key or "/shards/" in key for key in keys(root))
    assert committed_digest(root, "") == digest
    entry = read_audit(root)[-1]
    assert (entry.action, entry.counts["objects"]) == ("gc", len(removed.objects))
    assert collect_garbage(root, min_age_h=0).objects == []


def test_what_is_young_stays(root):
    found = collect_garbage(root, min_age_h=1, remove=True)
    assert found.objects == []
    assert found.num_young > 0
    for stored in root.list_objects():
        path = root.url(stored.key)
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    assert collect_garbage(root, min_age_h=1).num_young == 0


def test_what_is_young_by_the_stores_clock_stays_whatever_this_machines_says(root, monkeypatch):
    now_s = time.time
    monkeypatch.setattr(time, "time", lambda: now_s() + 7 * 86_400)
    assert collect_garbage(root, min_age_h=24, remove=True).objects == []


def test_a_night_that_can_be_gone_on_with_stays(tmp_path, inbox):
    root = Storage(str(tmp_path / "other"))
    plan = plan_night(night_config(inbox), root, BUNDLE, PSEUDONYMS)
    release_night(plan, root)
    assert collect_garbage(root, min_age_h=0).objects == []
    run_test_night(inbox, root, StandInDrafter())
    assert collect_garbage(root, min_age_h=0, remove=True).objects


def test_a_night_that_was_cut_off_and_whose_films_another_drafted_goes(tmp_path, inbox):
    root = Storage(str(tmp_path / "other"))
    plan = plan_night(night_config(inbox, date="2026-11-19"), root, BUNDLE, PSEUDONYMS)
    release_night(plan, root)
    run_test_night(inbox, root, StandInDrafter())
    collect_garbage(root, min_age_h=0, remove=True)
    assert root.list_objects("results/date=2026-11-19") == []
    assert read_manifests(root, DATE)


def test_left_overs_of_a_later_run_go(root, inbox):
    stray = f"results/date={DATE}/run=0123456789abcdef/reports-00000.parquet"
    root.put(stray, b"half")
    root.put(f"quarantine/date={DATE}/0123456789abcdef.parquet", b"half")
    root.put(f"ledger/date={DATE}/0123456789abcdef.parquet", b"half")
    root.put("audit/date=2026-01-01/x.json", b"{}")
    root.put("models/bundles/stray/bundle.json", b"{}")
    collect_garbage(root, min_age_h=0, remove=True)
    assert not any("0123456789abcdef" in key for key in keys(root))
    assert {"audit/date=2026-01-01/x.json", "models/bundles/stray/bundle.json"} <= keys(root)


def test_a_version_without_manifest_goes_and_others_are_still_read(tmp_path, monkeypatch):
    root, films = Storage(str(tmp_path / "root")), Storage(str(tmp_path / "films"))
    for number in range(3):
        films.put(f"{number}.png", png_bytes(number))
    films.put("films.csv", b"file,sex\n0.png,F\n")
    summary = ingest(IngestConfig(source=(films.root,), dataset="demo", image_size=64), root, PSEUDONYMS)
    kept = {key for key in keys(root) if not key.startswith("audit/")}
    prefix = f"datasets/demo/version={summary.dataset.version}/split=train"
    root.put(f"{prefix}/part-99999.parquet", b"half")
    root.put("datasets/demo/version=0000/split=train/part-00000.parquet", b"half")
    root.put("staging/ingest/demo/x/shard-0.parquet", b"half")
    removed = collect_garbage(root, min_age_h=0, remove=True)
    assert {stored.key.rsplit("/", 1)[-1] for stored in removed.objects} == {
        "part-99999.parquet", "part-00000.parquet", "shard-0.parquet",
    }  # fmt: skip
    assert {key for key in keys(root) if not key.startswith("audit/")} == kept


def test_what_a_kill_left_half_written_goes_once_it_is_old(inbox, tmp_path):
    root = Storage(str(tmp_path / "root"))
    run_test_night(inbox, root, StandInDrafter())
    kept = keys(root)
    half = [
        f"{name}.tmp-{number:032x}" for number, name in enumerate(("results/date=d/a.parquet", "checkpoints/clip/h/w"))
    ]
    for number, name in enumerate(half):
        path = Path(root.url(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (time.time() - 3600 * number,) * 2)
    assert keys(root) == kept, "no listing shows them"
    found = collect_garbage(root, min_age_h=0.5)
    assert [stored.key for stored in found.objects if ".tmp-" in stored.key] == half[1:]
    removed = collect_garbage(root, min_age_h=0.5, remove=True)
    assert half[1] in {stored.key for stored in removed.objects}
    assert [Path(root.url(name)).exists() for name in half] == [True, False]


@pytest.mark.parametrize("age", [-1, float("nan")])
def test_an_impossible_age_is_refused(root, age):
    with pytest.raises(ConfigError):
        collect_garbage(root, min_age_h=age)


def test_what_an_identity_without_deletion_left_goes_and_what_is_in_use_stays(inbox, tmp_path, monkeypatch):
    root = Storage(str(tmp_path / "root"))

    def refuse(_: Storage, key: str) -> None:
        raise StorageError("access is denied", key)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", refuse)
        summary = run_test_night(inbox, root, StandInDrafter())
        steps = {"finished": range(4), "unfinished": range(4), "rolled-back": (7, 8, 9, 4)}
        folders = [StageFolder(root, "detector", each) for each in steps]
        for folder in folders:
            for step in steps[folder.config_hash]:
                folder.save_state(TrainingState(step, {"model.a": torch.zeros(1)}))
        result = folders[0].finish(torch.nn.Linear(1, 1), {}, {})
    assert summary.num_accepted
    assert find_holder(root) is None
    root.put("spool/doctor-0", b"")
    root.put("spool/run-0.json", b"")
    note_told(summary.manifest_key, root)
    states = [stored for stored in root.list_objects("checkpoints") if "/state-" in stored.key]
    assert len(states) == 24
    whole = {stored.key for stored in states if stored.size and stored.key.endswith("safetensors")}
    assert whole == {
        f"checkpoints/detector/{name}.safetensors"
        for name in ("unfinished/state-00000002", "unfinished/state-00000003", "rolled-back/state-00000004")
    }, "no more than two of a training take room"
    held = acquire_lease(root, "2026-11-22")
    assert held is not None

    collect_garbage(root, min_age_h=0, remove=True)
    left = keys(root)
    assert {key for key in left if key.startswith("leases/")} == {held.key}
    assert {key for key in left if "/state-" in key} == whole | {key.replace("safetensors", "json") for key in whole}
    newest = folders[2].latest_state()
    assert newest is not None
    assert newest.step == 4
    assert folders[0].result() == result.model_copy(update={"reused": True})
    assert {key for key in left if key.startswith("spool/")} == {"spool/run-0.json"}
    held.release()


def test_nothing_goes_on_the_word_of_an_index_that_is_not_the_committed_one(root):
    (manifest,) = read_manifests(root, DATE)
    index = root.get(manifest.index_key)
    # still an index, but it names another object in the place of a document
    root.put(manifest.index_key, index.replace(b"/report.json", b"/repost.json", 1))
    before = keys(root)
    with pytest.raises(DigestMismatch, match="restore the object"):
        collect_garbage(root, min_age_h=0, remove=True)
    assert keys(root) == before
    root.put(manifest.index_key, index)
    assert named(root) <= keys(root)
