from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from crrg.data.dataset.batches import has_boxes, load_films, load_texts
from crrg.data.dataset.pairs import list_versions, read_manifest, read_pairs, resolve_dataset, write_dataset
from crrg.data.images import golden_digest, model_input
from crrg.domain.study import Split, ViewPosition
from crrg.errors import ConfigError, DigestMismatch, StorageError
from crrg.storage import Storage
from tests.support.made_pairs import make_film, make_pair


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(str(tmp_path / "root"))


def test_pairs_come_back_as_they_were_written(storage):
    pairs = [make_pair(i, film=make_film(seed=i)) for i in range(70)] + [make_pair(99, Split.TEST)]
    ref = write_dataset(storage, "demo", iter(pairs), {"image_size": 64})
    assert ref.num_rows == {"train": 70, "validation": 0, "test": 1}
    back = list(read_pairs(storage, ref, Split.TRAIN))
    assert len(back) == 70
    for ours, theirs in zip(pairs, back, strict=False):
        assert np.array_equal(ours.film.pixels, theirs.film.pixels)
        assert replace(theirs, film=None) == replace(ours, film=None)
        assert replace(theirs.film, pixels=ours.film.pixels) == ours.film
    (text_only,) = read_pairs(storage, ref, Split.TEST)
    assert text_only == pairs[-1]
    assert list(read_pairs(storage, ref, Split.VALIDATION)) == []
    assert len(list(read_pairs(storage, ref, Split.TRAIN, limit=3))) == 3


def test_same_content_gives_same_version_and_other_settings_another(storage):
    def pairs():
        return [make_pair(i, film=make_film(seed=i)) for i in range(3)]

    first = write_dataset(storage, "demo", pairs(), {"image_size": 64})
    before = {stored.key: storage.sha256(stored.key) for stored in storage.list_objects("datasets")}
    assert write_dataset(storage, "demo", pairs(), {"image_size": 64}) == first
    assert {stored.key: storage.sha256(stored.key) for stored in storage.list_objects("datasets")} == before
    second = write_dataset(storage, "demo", pairs(), {"image_size": 65})
    third = write_dataset(storage, "demo", pairs()[:2], {"image_size": 64})
    assert len({first.version, second.version, third.version}) == 3
    assert set(list_versions(storage, "demo")) == {first.version, second.version, third.version}


def test_parts_are_deterministic_bytes(tmp_path):
    keys = []
    for name in ("a", "b"):
        storage = Storage(str(tmp_path / name))
        write_dataset(storage, "demo", [make_pair(i, film=make_film(seed=i)) for i in range(40)], {"image_size": 64})
        keys.append({stored.key: storage.sha256(stored.key) for stored in storage.list_objects("datasets")})
    assert keys[0] == keys[1]


def test_manifest_is_written_last(storage, monkeypatch):
    def fail(key, data):
        raise StorageError("store went away", key)

    monkeypatch.setattr(storage, "put_if_absent", fail)
    with pytest.raises(StorageError):
        write_dataset(storage, "demo", [make_pair(1)], {"image_size": 64})
    with pytest.raises(ConfigError):
        resolve_dataset(storage, "demo")


def test_name_resolves_to_the_version_ingested_last(storage):
    first = write_dataset(storage, "demo", [make_pair(1)], {"image_size": 64})
    second = write_dataset(storage, "demo", [make_pair(2)], {"image_size": 64})
    assert resolve_dataset(storage, "demo") == second
    assert resolve_dataset(storage, "demo", first.version) == first
    write_dataset(storage, "demo", [make_pair(1)], {"image_size": 64})
    assert resolve_dataset(storage, "demo") == first


@pytest.mark.parametrize("name", ["", "../x", "Demo", "a/b", "x" * 64])
def test_a_name_that_cannot_stand_in_a_key_is_refused(storage, name):
    with pytest.raises(ConfigError):
        write_dataset(storage, name, [make_pair(1)], {"image_size": 64})


def test_no_rows_is_refused(storage):
    with pytest.raises(ConfigError):
        write_dataset(storage, "demo", [], {"image_size": 64})


def test_a_damaged_part_is_refused(storage):
    ref = write_dataset(storage, "demo", [make_pair(1)], {"image_size": 64})
    key = read_manifest(storage, ref)["files"][0]["key"]
    storage.put(key, storage.get(key)[:-1])
    with pytest.raises(DigestMismatch):
        list(read_pairs(storage, ref, Split.TRAIN))


def test_films_become_arrays(storage):
    pairs = [
        make_pair(0, film=make_film()),
        make_pair(1, film=make_film(view=ViewPosition.LATERAL)),
        make_pair(2),
        replace(make_pair(3, film=make_film(20, 40, ViewPosition.UNKNOWN)), label_source="none"),
    ]
    ref = write_dataset(storage, "demo", pairs, {"image_size": 64})
    table = load_films(storage, ref, Split.TRAIN, 20)
    assert len(table) == 2
    assert table.has_read_report.tolist() == [True, False]
    assert table.instance_ids == ["instance0", "instance3"]
    assert table.images.shape == (2, 20, 20)
    assert table.original_sizes.tolist() == [[80, 60], [40, 80]]
    # 80 x 60 into 20 x 20: a quarter of the size, 15 rows of film, (20 - 15) // 2 = 2 rows of padding above
    assert table.input_boxes_xyxy[0, 0].tolist() == [2.5, 5.0, 7.5, 15.0]
    assert table.images[0, :2].max() == 0
    assert np.isnan(table.input_boxes_xyxy[0, 1]).all()
    assert table.phrases[0] == {"right lung": "Clear."}
    assert table.is_abnormal[0, 0] == 0
    assert table.is_abnormal[0, 16] == -1
    assert table.labels[0].tolist() == [-2, -2, -2, -2, 1, -2, -1, -2, -2, -2, -2, 0, -2, -2]
    assert table.reports[0] == "Finding number 0."
    assert table.study_ids == ["study0", "study3"]
    assert load_films(storage, ref, Split.TRAIN, 20, laterals=True).instance_ids == ["instance1"]
    assert len(load_films(storage, ref, Split.TRAIN, 20, limit=1)) == 1
    assert load_films(storage, ref, Split.TEST, 20).images.shape == (0, 20, 20)
    assert [report.findings for report in load_texts(storage, ref, Split.TRAIN)] == [
        f"Finding number {i}." for i in range(4)
    ]


def test_unmentioned_labels_are_absent_where_a_training_asks_for_it_and_anything_is_known(storage):
    nothing_known = replace(make_pair(1, film=make_film()), labels={"Edema": None})
    ref = write_dataset(storage, "demo", [make_pair(0, film=make_film()), nothing_known], {"image_size": 64})
    told, untold = load_films(storage, ref, Split.TRAIN, 20, unmentioned_absent=True).labels.tolist()
    assert told == [0, 0, 0, 0, 1, 0, -1, 0, 0, 0, 0, 0, 0, 0]
    assert untold == [-2] * 14


def test_many_films_lie_in_a_file_without_a_name(storage, monkeypatch, tmp_path):
    pairs = [make_pair(number, film=make_film(30 + number, 40)) for number in range(7)]
    ref = write_dataset(storage, "demo", pairs, {"image_size": 64})
    held = load_films(storage, ref, Split.TRAIN, 20)
    monkeypatch.setattr("crrg.data.dataset.batches.MAX_HELD_BYTES", 3 * 20 * 20)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    mapped = load_films(storage, ref, Split.TRAIN, 20)
    assert isinstance(mapped.images, np.memmap)
    assert not isinstance(held.images, np.memmap)
    assert list(scratch.iterdir()) == []
    assert np.array_equal(mapped.images, held.images)
    assert np.array_equal(mapped.images[[6, 0, 3]], held.images[[6, 0, 3]])
    assert mapped.instance_ids == held.instance_ids


def test_a_full_disk_of_temporary_files_is_named_and_commits_nothing(storage, monkeypatch):
    pairs = [make_pair(number, film=make_film(30 + number, 40)) for number in range(4)]
    ref = write_dataset(storage, "demo", pairs, {"image_size": 64})

    def small_disk(**_: object) -> IO[bytes]:
        return Path("/dev/full").open("r+b")

    monkeypatch.setattr("crrg.data.dataset.batches.MAX_HELD_BYTES", 20 * 20)
    monkeypatch.setattr("tempfile.TemporaryFile", small_disk)
    with pytest.raises(StorageError, match=r"films of a split: DISK\.FULL"):
        load_films(storage, ref, Split.TRAIN, 20)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("crrg.data.dataset.staging.StagedRows.add", full)
    with pytest.raises(StorageError, match=r"dataset other: DISK\.FULL") as stopped:
        write_dataset(storage, "other", pairs, {"image_size": 64})
    assert stopped.value.code == "DISK.FULL"
    assert list_versions(storage, "other") == []


def test_rows_are_chosen_while_reading(storage):
    pairs = [make_pair(0, film=make_film()), make_pair(1, film=make_film(20, 40))]
    ref = write_dataset(storage, "demo", pairs, {"image_size": 64})
    assert load_films(storage, ref, Split.TRAIN, 20, keep=has_boxes).instance_ids == ["instance0", "instance1"]
    assert len(load_films(storage, ref, Split.TRAIN, 20, keep=lambda pair: pair.instance_id == "instance1")) == 1


def test_model_input_keeps_aspect_and_centres():
    square = model_input(np.full((10, 20), 200, dtype=np.uint8), 8)
    assert square.shape == (8, 8)
    assert square[2:6].min() == 200
    assert square[:2].max() == square[6:].max() == 0


def test_golden_digest_is_the_recorded_one():
    assert golden_digest() == "b1475367b9c2fc4c23370cf7911bc85c9679785d8c50909ba2f2c195e6b1b347"
