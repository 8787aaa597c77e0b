"""Markers in every field of an archive: none stands in anything that an ingest and a night write, log or raise."""

from __future__ import annotations

import base64
import logging
import sqlite3
import traceback
import urllib.parse
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crrg.config.data import IngestConfig
from crrg.data.archives.source_kinds import open_source
from crrg.errors import StorageError
from crrg.operations.ingest.ingest import ingest
from crrg.operations.night import feed as night_feed
from crrg.storage import Storage
from tests.support.canaries import MARKERS, find_markers, hits, marked_archive, marked_table
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, run_test_night


@pytest.fixture(autouse=True)
def _decode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)


@pytest.fixture
def archive(tmp_path: Path) -> Storage:
    files = marked_archive()
    storage = Storage(str(tmp_path / "archive"))
    for key, data in files.items():
        storage.put(key, data)
    storage.put("table.csv", marked_table(files))
    return storage


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    (tmp_path / "root").mkdir()
    return Storage(str(tmp_path / "root"))


def test_the_archive_is_full_of_markers(archive: Storage) -> None:
    found = {hit.split(" ")[0] for hit in find_markers(Path(archive.root))}
    # the table's copies of identifiers are joined with numbers, which is why every marker must be found by its own
    assert found == set(MARKERS)


def test_an_ingest_leaves_none(archive: Storage, root: Storage, caplog: pytest.LogCaptureFixture, capfd) -> None:
    caplog.set_level(logging.DEBUG)
    summary = ingest(IngestConfig(source=(archive.root,), dataset="marked", num_workers=1), root, PSEUDONYMS)
    assert summary.num_accepted >= 8
    assert summary.num_quarantined >= 8
    assert {"PHI", "IDENTITY", "PARSE", "DECODE", "GEOMETRY", "NOT_DICOM"} <= {r.split(".")[0] for r in summary.reasons}
    assert find_markers(Path(root.root)) == []
    assert hits(caplog.text.encode()) == []
    assert hits("".join(capfd.readouterr()).encode()) == []
    assert hits(summary.model_dump_json().encode()) == []


def test_a_night_leaves_none(archive: Storage, root: Storage, caplog: pytest.LogCaptureFixture, capfd) -> None:
    caplog.set_level(logging.DEBUG)
    summary = run_test_night(archive, root, StandInDrafter(), num_workers=0)
    assert summary.num_accepted >= 8
    assert summary.num_quarantined >= 8
    assert find_markers(Path(root.root)) == []
    assert hits(caplog.text.encode()) == []
    assert hits("".join(capfd.readouterr()).encode()) == []
    assert hits(summary.model_dump_json().encode()) == []


def test_an_object_that_is_gone_is_not_named(archive: Storage) -> None:
    source = open_source(archive.root)
    key = next(iter(marked_archive()))
    archive.delete(key)
    with pytest.raises(StorageError) as caught:
        source.storage.get(key)
    shown = "".join(traceback.format_exception(caught.value))
    assert hits(shown.encode()) == []
    assert "an object of the archive" in shown


@pytest.mark.parametrize(
    "data",
    [
        MARKERS["name"].upper().encode(),
        MARKERS["name"].encode("utf-16"),
        urllib.parse.quote(f"/{MARKERS['name']}^X/").encode(),
        "".join(f"%{byte:02X}" for byte in MARKERS["name"].encode()).encode(),
        *(base64.b64encode(b"patient:"[:length] + MARKERS["name"].encode() + b"^and more") for length in range(6, 9)),
    ],
)
def test_the_search_knows_other_spellings(data: bytes) -> None:
    assert any(hit.startswith("name ") for hit in hits(b"before " + data + b" after"))


def test_the_search_opens_what_is_packed(tmp_path: Path) -> None:
    texts = pa.table({"free": [f"seen by {MARKERS['name']}"] * 50, MARKERS["column"]: list(range(50))})
    pq.write_table(texts, tmp_path / "a.parquet", compression="ZSTD")
    with sqlite3.connect(tmp_path / "b.db") as connection:
        connection.execute("CREATE TABLE t (v BLOB)")
        connection.execute("INSERT INTO t VALUES (?)", (MARKERS["patient"].encode(),))
    (tmp_path / "c.z").write_bytes(zlib.compress(MARKERS["private"].encode()))
    (tmp_path / MARKERS["file"]).touch()
    found = {hit.split(" ")[0] for hit in find_markers(tmp_path)}
    assert found == {"name", "column", "patient", "private", "file"}
