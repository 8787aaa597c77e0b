"""Parquet tables as named files: deterministic bytes out, verified rows in.

A table is written once, over no other, and described by a ``TableFile``, which a manifest then names. Nothing here
knows what a column means.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from crrg.config.base import FrozenConfig
from crrg.data.map_ahead import map_ahead
from crrg.data.parquet import read_parquet
from crrg.errors import DigestMismatch
from crrg.ledger.beside import put_beside
from crrg.storage import Storage

ROW_GROUP_SIZE = 4096
TABLES_AHEAD = 4
"""Tables that are read at a time where all are gone through: a night of any size holds no more."""


class TableFile(FrozenConfig):
    """A Parquet file as a manifest names it.

    Attributes:
        kind: ``reports``, ``regions``, ``ledger`` or ``quarantine``.
        key: Key relative to the root.
        num_rows: Rows.
        size: Bytes.
        sha256: Digest of the bytes.
    """

    kind: str
    key: str
    num_rows: int
    size: int
    sha256: str


def table_bytes(table: pa.Table) -> bytes:
    """Return a table as Parquet bytes; equal tables give equal bytes with one version of the writer."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=ROW_GROUP_SIZE, store_schema=True)
    return sink.getvalue()


def write_table(storage: Storage, key: str, table: pa.Table, kind: str) -> TableFile:
    """Write a table and return how a manifest names it: where another table lies under its key, beside that one."""
    data = table_bytes(table)
    key = put_beside(storage, key, data)
    return TableFile(
        kind=kind, key=key, num_rows=table.num_rows, size=len(data), sha256=hashlib.sha256(data).hexdigest()
    )


def read_table(storage: Storage, file: TableFile) -> pa.Table:
    """Read a named table.

    Raises:
        DigestMismatch: The bytes or the number of rows are not the recorded ones.
    """
    table = read_parquet(storage.get_verified(file.key, file.sha256))
    if table.num_rows != file.num_rows:
        raise DigestMismatch(f"{table.num_rows} rows, but {file.num_rows} are recorded; restore the object", file.key)
    return table


def read_each(storage: Storage, files: Iterable[TableFile]) -> Iterator[pa.Table]:
    """Yield named tables in their order; the next ones are read meanwhile.

    Raises:
        DigestMismatch: The bytes or the number of rows of one are not the recorded ones.
    """
    return map_ahead(partial(read_table, storage), files, TABLES_AHEAD)


def read_tables(storage: Storage, files: Sequence[TableFile], kind: str, schema: pa.Schema) -> pa.Table:
    """Read all named tables of one kind as one; no files give an empty table of the schema."""
    tables = [table.cast(schema) for table in read_each(storage, (file for file in files if file.kind == kind))]
    return pa.concat_tables(tables) if tables else schema.empty_table()
