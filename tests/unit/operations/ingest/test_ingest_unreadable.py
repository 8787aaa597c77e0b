"""A film that an archive does not give out is refused; an archive that gives out nothing stops the ingest."""

from __future__ import annotations

import errno
import io
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from crrg import local_files
from crrg.config.data import IngestConfig
from crrg.data.archives.givers import Givers, read_given
from crrg.data.dataset.pairs import read_manifest
from crrg.data.decoding.pool import decode_many
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import StorageError
from crrg.operations.ingest import run as ingest_run
from crrg.operations.ingest import shards as ingest_shards
from crrg.operations.ingest.ingest import ingest
from crrg.operations.ingest.shards import decode_shard, plan_shards
from crrg.retries import ACCESS_DENIED
from crrg.storage import Storage
from tests.support.drawn_night import png_bytes
from tests.support.keys import KEY
from tests.support.store_hooks import Refuse, refusing

PSEUDONYMS = Pseudonyms(KEY.encode())
FILMS = [f"name-of-{number}.png" for number in range(4)]


@pytest.fixture
def archive(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path / "films"))
    for number, key in enumerate(FILMS):
        storage.put(key, png_bytes(number))
    return storage


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch, archive: Storage) -> Refuse:
    for module in (ingest_run, ingest_shards):
        monkeypatch.setattr(module, "decode_many", lambda items, size, _, **__: decode_many(items, size, 0))
    return refusing(monkeypatch, archive)


def form(archive: Storage) -> IngestConfig:
    return IngestConfig(source=archive.root, dataset="x", image_size=64, shard_size=1)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("place", [0, 3])
def test_one_film_that_is_not_given_out_is_refused_and_read_once_it_is(archive, root, refuse, number, place):
    refuse(number, [FILMS[place]])
    first = ingest(form(archive), root, PSEUDONYMS)
    assert (first.num_accepted, first.reasons, first.is_over_limit) == (3, {"CHANGED.UNREADABLE": 1}, True)
    again = ingest(form(archive), root, PSEUDONYMS)
    assert again.reused
    refuse(number, [])
    second = ingest(form(archive), root, PSEUDONYMS)
    assert (second.num_accepted, second.reasons, second.reused) == (4, {}, False)
    for summary, num_refused in ((first, 1), (second, 0)):
        named = read_manifest(root, summary.dataset)["ingest"]["quarantine"]
        data = root.get_verified(named["key"], named["sha256"])
        assert named["key"] == summary.quarantine_key
        assert (named["num_rows"], named["num_bytes"], named["schema_version"]) == (num_refused, len(data), 2)
        assert pq.read_metadata(io.BytesIO(data)).num_rows == num_refused
    assert ingest(form(archive), root, PSEUDONYMS).dataset == second.dataset


@pytest.mark.parametrize("full", ["temporary", "root"])
def test_an_ingest_without_room_for_its_rows_reads_nothing(archive, root, refuse, monkeypatch, full):
    refuse(errno.EACCES, FILMS)
    free = {"temporary": {tempfile.gettempdir(): 1}, "root": {root.root: 1}}[full]
    monkeypatch.setattr(local_files, "free_bytes", lambda place: free.get(place, 10**9))
    wanted = r"dataset x: DISK\.FULL: about 0\.0 MB are needed and 0\.0 MB are free in"
    with pytest.raises(StorageError, match=wanted) as caught:
        ingest(form(archive), root, PSEUDONYMS)
    assert caught.value.code == local_files.DISK_FULL
    assert root.list_objects() == []


def test_archive_that_gives_out_nothing_stops_the_ingest_at_its_first_film(archive, root, refuse):
    refuse(errno.EACCES, FILMS)
    with pytest.raises(StorageError, match="is denied; check the owner") as caught:
        ingest(form(archive), root, PSEUDONYMS)
    assert caught.value.code == ACCESS_DENIED
    assert "name-of" not in str(caught.value)
    assert root.list_objects() == []


def test_shard_of_nothing_but_a_denied_film_is_told_from_an_archive_that_is_denied(archive, root, refuse):
    refuse(errno.EACCES, [FILMS[1]])
    shards = plan_shards(form(archive), root, PSEUDONYMS)
    assert [decode_shard(form(archive), shard, root, PSEUDONYMS).num_refused for shard in shards] == [0, 1, 0, 0]
    root.delete(shards[0].key)
    refuse(errno.EACCES, FILMS)
    with pytest.raises(StorageError, match="denied"):
        decode_shard(form(archive), shards[0], root, PSEUDONYMS)
    refuse(errno.EACCES, [FILMS[1]])
    summary = ingest(form(archive), root, PSEUDONYMS)
    assert (summary.num_accepted, summary.reasons) == (3, {"CHANGED.UNREADABLE": 1})


def test_mask_that_is_not_given_out_costs_its_film_and_no_other(archive, root, refuse):
    mask = cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes()
    archive.put("masks/name-of-1.png", mask)
    refuse(errno.EACCES, ["masks/name-of-1.png"])
    summary = ingest(form(archive), root, PSEUDONYMS)
    assert (summary.num_accepted, summary.reasons) == (3, {"CHANGED.UNREADABLE": 1})
    refuse(errno.EACCES, [])
    assert "CHANGED.UNREADABLE" not in ingest(form(archive), root, PSEUDONYMS).reasons


def test_store_that_is_out_of_reach_is_no_fault_of_one_object(archive):
    remote = Storage("s3://bucket/films")
    stored = archive.list_objects()[0]

    def read() -> None:
        raise StorageError("no answer", stored.key, retryable=True)

    with pytest.raises(StorageError, match="an object: no answer") as caught:
        read_given(read, stored.key, remote, Givers(remote, [stored]), "an object")
    assert caught.value.retryable


def test_a_film_whose_name_is_no_text_is_read_and_found_again(archive, root, refuse):
    (Path(archive.root) / "caf\udce9.png").write_bytes(png_bytes(9))
    first = ingest(form(archive), root, PSEUDONYMS)
    assert (first.num_accepted, first.reasons) == (5, {})
    assert ingest(form(archive), root, PSEUDONYMS).reused


def test_files_that_are_no_films_by_their_names_are_counted(archive, root, refuse, caplog):
    for name in ("scan.IMA", "scan.dcm.gz", "a/scan.tif", ".hidden.tif"):
        archive.put(name, b"x")
    with caplog.at_level("INFO", "crrg.data.archives.folder"):
        assert ingest(form(archive), root, PSEUDONYMS).num_inputs == 4
    (said,) = [record.getMessage() for record in caplog.records if record.name == "crrg.data.archives.folder"]
    assert said == "files ignored, since their names are neither those of films nor of tables: 3"
