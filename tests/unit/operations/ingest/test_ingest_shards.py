from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from crrg.config.data import IngestConfig
from crrg.data.decoding.pool import decode_many
from crrg.data.phantom.cohort import write_cohort
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import ConfigError
from crrg.operations.ingest import run as ingest_run
from crrg.operations.ingest import shards as ingest_shards
from crrg.operations.ingest import staged as ingest_staged
from crrg.operations.ingest.ingest import ingest
from crrg.operations.ingest.shards import decode_shard, plan_shards
from crrg.storage import Storage
from tests.support.dicom_builder import build_dicom
from tests.support.keys import KEY
from tests.support.store_hooks import before_reading

PSEUDONYMS = Pseudonyms(KEY.encode())
NUM_FILMS = 8
NUM_DRAWN = 6


@pytest.fixture(autouse=True)
def decode_in_this_process(monkeypatch):
    for module in (ingest_run, ingest_shards):
        monkeypatch.setattr(module, "decode_many", lambda items, size, _, **__: decode_many(items, size, 0))


@pytest.fixture
def objects_read(monkeypatch) -> list[str]:
    """Names of the objects that are read, in order of reading."""
    names: list[str] = []
    before_reading(monkeypatch, lambda stored: names.append(stored.key))
    return names


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> tuple[str, str]:
    """A drawn cohort with scene graphs, and films of a folder: good, broken, equal, nameless, and with bad reports."""
    drawn, folder = tmp_path_factory.mktemp("drawn"), tmp_path_factory.mktemp("films")
    write_cohort(str(drawn), NUM_DRAWN, 3, 64)
    for index in range(NUM_FILMS):
        write_film(folder, f"f{index:02d}.dcm", index)
    write_film(folder, "g-equal-to-f02.dcm", 2, index=90)
    write_film(folder, "h-nobody.dcm", 40, index=91, PatientID=None)
    (folder / "broken.dcm").write_bytes(b"no film")
    with (folder / "reports.csv").open("w", newline="") as file:
        rows = [("file", "findings")]
        rows += [(f"f{index:02d}.dcm", "The heart is enlarged. No pneumothorax.") for index in range(NUM_FILMS - 1)]
        csv.writer(file).writerows(
            [
                *rows,
                (
                    f"f{NUM_FILMS - 1:02d}.dcm",
                    "Das Herz ist nicht vergroessert. Kein Erguss, keine Stauung, die Lunge ist frei.",
                ),
            ]
        )
    return str(drawn), str(folder)


def write_film(folder: Path, name: str, seed: int, index: int | None = None, **tags: str | None) -> None:
    number = seed if index is None else index
    coarse = np.random.default_rng(seed).integers(200, 3800, (12, 15)).astype(np.float32)
    pixels = cv2.resize(coarse, (90, 72), interpolation=cv2.INTER_CUBIC).clip(0, 4095).astype(np.uint16)
    ids = {"SOPInstanceUID": f"1.2.3.{number}", "StudyInstanceUID": f"1.2.{number}", "PatientID": f"P-{number}"}
    (folder / name).write_bytes(build_dicom(pixels, **{**ids, **tags}))


def form(archives: tuple[str, str], **settings: object) -> IngestConfig:
    return IngestConfig(source=archives, dataset="x", image_size=64, **{"shard_size": 4, **settings})


def new_root(tmp_path: Path, name: str) -> Storage:
    return Storage(str(tmp_path / name))


def contents(root: Storage, prefix: str = "") -> dict[str, bytes]:
    """Return all objects but the audit, which says when something was done."""
    kept = [stored.key for stored in root.list_objects(prefix) if not stored.key.startswith("audit/")]
    return {key: root.get(key) for key in kept}


def stage_all(config: IngestConfig, root: Storage):
    return [decode_shard(config, shard, root, PSEUDONYMS) for shard in plan_shards(config, root, PSEUDONYMS)]


def test_shards_make_the_very_bytes_that_one_process_makes(archives, tmp_path, objects_read):
    whole, sharded = new_root(tmp_path, "whole"), new_root(tmp_path, "sharded")
    expected = ingest(form(archives), whole, PSEUDONYMS)
    assert (expected.num_inputs, expected.num_accepted) == (17, 13)
    assert sorted(expected.reasons) == ["DUPLICATE.PIXELS", "IDENTITY.MISSING", "LANG.NOT_ENGLISH", "NOT_DICOM.MARK"]

    config = form(archives)
    shards = plan_shards(config, sharded, PSEUDONYMS)
    assert [(shard.index, shard.first, shard.num_inputs) for shard in shards] == [
        (0, 0, 4), (1, 4, 4), (2, 8, 4), (3, 12, 4), (4, 16, 1),
    ]  # fmt: skip
    # the order in which shards run is nobody's business
    staged = [decode_shard(config, shard, sharded, PSEUDONYMS) for shard in reversed(shards)]
    assert sum(each.num_refused for each in staged) == 3
    objects_read.clear()
    summary = ingest(config, sharded, PSEUDONYMS)
    assert objects_read == []
    assert summary == expected
    # dataset, card, quarantine and the record of inputs, to the byte; nothing staged is left
    assert contents(sharded) == contents(whole)
    (table,) = [key for key in contents(sharded) if key.endswith("/_acquisition.parquet")]
    assert {row["sex"] for row in pq.read_table(io.BytesIO(sharded.get(table))).to_pylist()} == {"F", "M", None}


def test_what_is_staged_names_nobody(archives, tmp_path):
    root = new_root(tmp_path, "root")
    stage_all(form(archives), root)
    keys = [stored.key for stored in root.list_objects("staging")]
    assert len(keys) == 6
    for key in keys:
        data = root.get(key)
        for name in (b"P-3", b"1.2.3.3", b"f03.dcm", b"broken"):
            assert name not in data
            assert name.decode() not in key
    first = pq.read_table(io.BytesIO(root.get(keys[1]))).to_pylist()
    assert [len(row["pair"]["image"]) for row in first] == [
        row["pair"]["width"] * row["pair"]["height"] for row in first
    ]


def test_a_second_run_keeps_the_shards_that_are_staged(archives, tmp_path, objects_read):
    config, root = form(archives), new_root(tmp_path, "root")
    shards = plan_shards(config, root, PSEUDONYMS)
    for shard in shards[:3]:
        assert not decode_shard(config, shard, root, PSEUDONYMS).reused
    assert len(objects_read) == 12
    again = plan_shards(config, root, PSEUDONYMS)
    assert again == shards
    staged = [decode_shard(config, shard, root, PSEUDONYMS) for shard in again]
    assert [each.reused for each in staged] == [True, True, True, False, False]
    assert len(objects_read) == 17
    assert [each.num_inputs for each in staged] == [4, 4, 4, 4, 1]


def test_a_shard_that_is_missing_damaged_or_of_other_films_is_read_again(archives, tmp_path, objects_read):
    config, root = form(archives), new_root(tmp_path, "root")
    expected = ingest(config, new_root(tmp_path, "whole"), PSEUDONYMS)
    shards = plan_shards(config, root, PSEUDONYMS)
    for shard in shards:
        decode_shard(config, shard, root, PSEUDONYMS)
    root.delete(shards[0].key)
    root.put(shards[1].key, root.get(shards[1].key)[:-200])
    root.put(shards[2].key, contents(root)[shards[3].key])
    objects_read.clear()
    summary = ingest(config, root, PSEUDONYMS)
    assert len(objects_read) == 12
    assert summary == expected
    assert root.list_objects("staging") == []


def test_a_shard_that_goes_away_over_the_reading_is_read_again(archives, tmp_path, monkeypatch):
    config, root = form(archives), new_root(tmp_path, "root")
    expected = ingest(config, new_root(tmp_path, "whole"), PSEUDONYMS)
    stage_all(config, root)
    look_at = ingest_staged.StagedInputs._look_at

    def look_and_lose(self, key):
        look_at(self, key)
        root.delete(key)

    monkeypatch.setattr(ingest_staged.StagedInputs, "_look_at", look_and_lose)
    assert ingest(config, root, PSEUDONYMS) == expected


def test_only_new_films_are_in_shards_and_an_unchanged_archive_has_none(archives, tmp_path):
    first, both = form(archives[:1]), form(archives)
    root = new_root(tmp_path, "root")
    ingest(first, root, PSEUDONYMS)
    assert plan_shards(first, root, PSEUDONYMS) == ()
    shards = plan_shards(both, root, PSEUDONYMS)
    assert sum(shard.num_inputs for shard in shards) == NUM_FILMS + 3
    for shard in shards:
        decode_shard(both, shard, root, PSEUDONYMS)
    version = ingest(both, root, PSEUDONYMS).dataset.version
    assert version == ingest(both, new_root(tmp_path, "whole"), PSEUDONYMS).dataset.version


def test_shards_of_an_ingest_that_was_killed_after_its_commit_are_cleared(archives, tmp_path, monkeypatch):
    config, root = form(archives), new_root(tmp_path, "root")
    stage_all(config, root)
    with monkeypatch.context() as patch:
        patch.setattr("crrg.operations.ingest.ingest.clear_staged", lambda *_: None)
        first = ingest(config, root, PSEUDONYMS)
    assert root.list_objects("staging")
    second = ingest(config, root, PSEUDONYMS)
    assert second.reused
    assert second.dataset == first.dataset
    assert root.list_objects("staging") == []


def test_old_left_overs_go_and_those_of_others_stay(archives, tmp_path, monkeypatch):
    config, root = form(archives), new_root(tmp_path, "root")
    root.put("staging/ingest/x/otherwise/a/shard-00000.parquet", b"of an ingest at another size")
    root.put("staging/ingest/y/otherwise/a/shard-00000.parquet", b"of another dataset")
    stage_all(config, root)
    ingest(config, root, PSEUDONYMS)
    kept = ["staging/ingest/x/otherwise/a/shard-00000.parquet", "staging/ingest/y/otherwise/a/shard-00000.parquet"]
    assert list(contents(root, "staging")) == kept
    monkeypatch.setattr(ingest_staged, "LEFT_OVER_AFTER_S", -1)
    ingest(config, root, PSEUDONYMS)
    assert list(contents(root, "staging")) == kept[1:]


def test_a_machine_with_another_secret_or_another_root_is_refused(archives, tmp_path):
    config, root = form(archives), new_root(tmp_path, "root")
    shard = plan_shards(config, root, PSEUDONYMS)[0]
    with pytest.raises(ConfigError, match="CRRG_HMAC_KEY"):
        decode_shard(config, shard, root, Pseudonyms(b"o" * 32))
    with pytest.raises(ConfigError, match="CRRG_ROOT"):
        decode_shard(config, shard, new_root(tmp_path, "elsewhere"), PSEUDONYMS)
    assert [stored.key for stored in root.list_objects("staging")] == [shard.plan_key]


def test_of_two_processes_with_one_shard_the_first_counts(archives, tmp_path, monkeypatch):
    config, root = form(archives), new_root(tmp_path, "root")
    shard = plan_shards(config, root, PSEUDONYMS)[0]
    root.put(shard.key, b"the other's")
    exists = Storage.exists
    monkeypatch.setattr(Storage, "exists", lambda self, key: key != shard.key and exists(self, key))
    assert not decode_shard(config, shard, root, PSEUDONYMS).reused
    assert root.get(shard.key) == b"the other's"
