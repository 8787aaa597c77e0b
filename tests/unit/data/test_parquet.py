"""Tables from bytes and open files are what was written, whole or in part."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crrg.data.parquet import open_parquet, read_columns, read_parquet


@pytest.fixture
def data() -> bytes:
    """Two row groups of two columns, one of words."""
    table = pa.table({"a": [1, 2, 3], "b": pa.array(["x", "y", "x"]).dictionary_encode()})
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"said": "so"}), sink, row_group_size=2)
    return sink.getvalue()


def test_bytes_give_the_table_with_its_types_and_metadata(data: bytes) -> None:
    table = read_parquet(data)
    assert table.to_pydict() == {"a": [1, 2, 3], "b": ["x", "y", "x"]}
    assert pa.types.is_dictionary(table.schema.field("b").type)
    assert table.schema.metadata[b"said"] == b"so"


def test_an_open_file_gives_some_columns(data: bytes) -> None:
    assert read_columns(io.BytesIO(data), ["b"]).to_pydict() == {"b": ["x", "y", "x"]}


def test_row_groups_are_read_one_by_one_from_bytes_and_from_a_file(data: bytes) -> None:
    for source in (data, io.BytesIO(data)):
        file = open_parquet(source)
        assert file.read_row_group(1, use_threads=False).column("a").to_pylist() == [3]


def test_what_is_no_parquet_is_an_error_that_callers_expect() -> None:
    for read in (read_parquet, open_parquet):
        with pytest.raises((ValueError, OSError)):
            read(b"nothing of the kind")
