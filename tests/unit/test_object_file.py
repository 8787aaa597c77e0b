"""What is read of an object piece by piece is tried again, and fails with our errors where it cannot be had."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crrg.data.archives.members import Members
from crrg.errors import Conflict, StorageError
from crrg.operations.privacy.traces import ID_COLUMNS, _table_triples
from crrg.retries import MAX_TRIES, guard_of
from crrg.storage import FOREIGN_OBJECT, StoredObject
from tests.support.flaky_s3 import FlakyStore, flaky_store


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyStore]:
    monkeypatch.setattr("crrg.storage.time.sleep", lambda _: None)
    guard_of.cache_clear()
    with flaky_store() as found:
        yield found


def table_of_ids(num_rows: int = 3000) -> bytes:
    rows = [{name: f"{name}-{number}" for name in ID_COLUMNS} for number in range(num_rows)]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=500)
    return file.getvalue()


def test_ids_of_a_table_are_read_from_a_store_that_fails_now_and_then(store: FlakyStore) -> None:
    store.objects["part.parquet"] = table_of_ids()
    triples = list(_table_triples(store.root, "part.parquet"))
    assert len(triples) == 3000
    assert triples[0] == ("patient_id-0", "study_id-0", "instance_id-0", "")
    assert store.failed
    assert store.num_given >= len(store.failed)


def test_a_store_that_is_away_in_the_middle_of_a_table_is_named_with_a_way_out(store: FlakyStore) -> None:
    store.objects["part.parquet"] = table_of_ids()
    store.is_down = True
    with pytest.raises(StorageError, match=f"out of reach after {MAX_TRIES} tries .*run again later") as error:
        list(_table_triples(store.root, "part.parquet"))
    assert (error.value.subject, error.value.retryable) == ("part.parquet", True)


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed_with_its_successor(store: FlakyStore) -> None:
    store.objects["part.parquet"] = table_of_ids()
    with store.root.open_binary("part.parquet") as file:
        store.etag = '"1"'
        with pytest.raises(Conflict):
            pq.read_table(file)


def test_a_file_is_read_from_a_zip_in_a_store_that_fails_now_and_then(store: FlakyStore) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("files/s1.txt", "FINDINGS: clear")
    store.objects["reports.zip"] = data.getvalue()
    nameless = store.root.without_names()
    packed = StoredObject("reports.zip", len(data.getvalue()), 0.0, "0")
    found = Members(nameless, re.compile(r"(?P<name>s\d+)\.txt$"), [], [packed], 1000)
    assert found.read("s1") == b"FINDINGS: clear"
    assert store.failed
    store.is_down = True
    with pytest.raises(StorageError) as error:
        Members(nameless, re.compile(r"(?P<name>s\d+)\.txt$"), [], [packed], 1000)
    assert error.value.subject == FOREIGN_OBJECT


def test_it_is_read_anywhere_like_a_file(store: FlakyStore) -> None:
    store.objects["key"] = bytes(range(200))
    with store.root.open_binary("key") as file:
        assert file.seek(-10, io.SEEK_END) == 190
        assert file.read() == bytes(range(190, 200))
        assert file.read(5) == b""
        assert file.seek(3) == file.tell() == 3
        assert file.read(2) == b"\3\4"
        assert file.seek(1000) == 1000
        assert file.read(1) == b""
        with pytest.raises((OSError, ValueError)):
            file.seek(-1)
    with pytest.raises(StorageError, match="no such object"):
        store.root.open_binary("none")
