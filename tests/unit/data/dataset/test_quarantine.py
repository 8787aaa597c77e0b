"""Refused inputs: one schema for ingests and nights, and tables of before it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crrg.data.dataset.quarantine import QUARANTINE_SCHEMA, Refusal, as_quarantine, write_quarantine
from crrg.errors import StorageError
from crrg.storage import Storage

OF_AN_INGEST = {
    "object_id": "o1",
    "source": "folder",
    "etag": None,
    "num_bytes": 7,
    "reason": "EMPTY.FILE",
    "sentence": "no bytes",
    "stage": "decode",
    "ingested_version": "0.1.0+4",
}
OF_A_NIGHT = {
    "key_hmac": "k1",
    "etag": "e1",
    "source_digest": b"\x01" * 32,
    "study_id": "s1",
    "instance_id": "i1",
    "reason": "VIEW.LATERAL",
    "detail": "a lateral film",
    "run_id": "r1",
    "version": "0.1.0",
}


def test_what_an_ingest_writes_has_the_schema_of_nights(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    refusals = [Refusal("k", "folder", "e", 7, "EMPTY.FILE", "no bytes", "decode")]
    table = pq.read_table(tmp_path / write_quarantine(storage, "demo", refusals, "1+4")["key"])
    assert table.schema.equals(QUARANTINE_SCHEMA, check_metadata=True)
    assert table.to_pylist() == [
        {
            "key_hmac": "k", "source": "folder", "etag": "e", "num_bytes": 7, "source_digest": None, "study_id": "",
            "instance_id": "", "reason": "EMPTY.FILE", "detail": "no bytes", "stage": "decode", "run_id": "",
            "version": "1+4",
        }
    ]  # fmt: skip
    assert as_quarantine(table).equals(table)


def test_tables_of_the_first_version_are_read() -> None:
    (ingest,) = as_quarantine(pa.Table.from_pylist([OF_AN_INGEST])).to_pylist()
    assert ingest == {
        "key_hmac": "o1", "source": "folder", "etag": "", "num_bytes": 7, "source_digest": None, "study_id": "",
        "instance_id": "", "reason": "EMPTY.FILE", "detail": "no bytes", "stage": "decode", "run_id": "",
        "version": "0.1.0+4",
    }  # fmt: skip
    (night,) = as_quarantine(pa.Table.from_pylist([OF_A_NIGHT])).to_pylist()
    assert night == {**OF_A_NIGHT, "source": "inbox", "num_bytes": None, "stage": None}
    empty = pa.Table.from_pylist([OF_A_NIGHT]).slice(0, 0)
    assert as_quarantine(empty).equals(QUARANTINE_SCHEMA.empty_table())


def test_a_column_of_no_version_is_refused() -> None:
    with pytest.raises(StorageError, match="columns weather are not known; use the program version"):
        as_quarantine(pa.Table.from_pylist([{**OF_A_NIGHT, "weather": "fine"}]))
