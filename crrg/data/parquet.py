"""Parquet read so that Arrow's threads never hold a Python object: the only place that opens it from bytes or a file.

Arrow's pool may give a Python file back in one of its own threads when the process ends, which aborts a command whose
work was done (apache/arrow #34314). Bytes are therefore handed over as Arrow's own buffer, and a file is read by the
thread that asks. Knows no columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(data: bytes) -> pa.Table:
    """Read a table from the bytes of its file.

    Raises:
        pa.ArrowException: They are no Parquet file; mostly a ``ValueError`` or ``OSError``, too.
    """
    return pq.read_table(pa.BufferReader(data), use_threads=False)


def read_columns(file: BinaryIO, columns: Sequence[str]) -> pa.Table:
    """Read some columns of a table from an open file; no more of it is fetched.

    Raises:
        pa.ArrowException: It is no Parquet file, or lacks the columns; mostly a ``ValueError`` or ``OSError``, too.
        StorageError: The object that the file is cannot be read.
    """
    return open_parquet(file).read(columns=list(columns), use_threads=False)


def open_parquet(source: bytes | BinaryIO) -> pq.ParquetFile:
    """Open a file to look at its schema and read it piece by piece; give ``use_threads=False`` with every read.

    Args:
        source: Its bytes, or an open file.

    Raises:
        pa.ArrowException: It is no Parquet file; mostly a ``ValueError`` or ``OSError``, too.
    """
    return pq.ParquetFile(pa.BufferReader(source) if isinstance(source, bytes) else source)
