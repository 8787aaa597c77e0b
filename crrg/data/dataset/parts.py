"""Parquet parts of one split: how rows lie in files, and what a manifest says of each file.

Row groups of 32 films of 512 px are 8 MB. ``benchmarks/reader_speed.py`` measures the choice, in films per second with
4, 8, 16, 32, 64 and 128 rows: an epoch in mixed windows of 256 films gives 599, 1507, 2238, 2520, 1307, 721; reads
without any neighbourhood 202, 193, 129, 49, 34, 15. Training reads in windows, so 32. A manifest names every row
group's bytes with their sha256, so that a reader who fetches only these can verify them (``reader``). Until they are
sent, all parts of a split lie one behind the other in a local file without a name, so that none outlives this process.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from crrg.data.dataset.pair_schema import PAIR_SCHEMA, TEXT_COLUMNS
from crrg.data.parquet import open_parquet
from crrg.domain.study import Split
from crrg.storage import Storage

LAYOUT_VERSION = 2
"""Raised when parts or their manifest entries change while rows do not."""
ROW_GROUP_ROWS = 32
PART_ROWS = 128
"""Rows per part: 33 MB at 512 px, what is held in memory to send or to verify a part."""
SENDERS = 2

_WORD_COLUMNS = (
    "view_position",
    "label_source",
    "source",
    "ingested_version",
    "regions.list.element.region",
    "regions.list.element.source",
)
_STATISTICS_COLUMNS = ("patient_id", "study_id", "instance_id")
_COMPRESSION = {"image": "NONE", **dict.fromkeys(TEXT_COLUMNS, "LZ4"), "regions.list.element.phrase": "LZ4"}


class PartWriter:
    """One split's rows on their way into parts."""

    def __init__(self, split: Split, file: BinaryIO) -> None:
        """Write into an empty ``file``, which the caller closes."""
        self.split = split
        self.num_rows = 0
        self._file = file
        self._rows: list[dict[str, Any]] = []
        self._parts: list[_Part] = []
        self._writer: pq.ParquetWriter | None = None
        self._digest = hashlib.sha256()

    @property
    def content_digest(self) -> str:
        """Hex sha256 over all rows, independent of how Parquet lays them out."""
        return self._digest.hexdigest()

    def add(self, row: dict[str, Any], digest: bytes) -> None:
        """Append a row of ``PAIR_SCHEMA`` and its digest."""
        self._digest.update(digest)
        self._rows.append(row)
        self.num_rows += 1
        if len(self._rows) == ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._end_part()

    def send(self, storage: Storage, prefix: str) -> list[dict[str, Any]]:
        """Put the parts under a prefix, some at once, and return their manifest entries in order."""
        if not self._parts:
            return []

        def send_part(number: int, part: _Part) -> dict[str, Any]:
            data = whole[part.start : part.end]
            key = f"{prefix}/split={self.split.value}/part-{number:05d}.parquet"
            storage.put(key, data)
            return {"key": key, "split": self.split.value, "num_rows": part.num_rows, **describe_part(data)}

        with (
            mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
            ThreadPoolExecutor(SENDERS, thread_name_prefix="crrg-send") as senders,
        ):
            return list(senders.map(send_part, range(len(self._parts)), self._parts))

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self._parts.append(_Part(self._file))
            self._writer = _open_writer(self._parts[-1])
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=PAIR_SCHEMA))
        self._parts[-1].num_rows += len(self._rows)
        self._rows = []
        if self._parts[-1].num_rows >= PART_ROWS:
            self._end_part()

    def _end_part(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._file.flush()


class _Part(io.RawIOBase):
    """What is written behind the end of a file, as a file of its own.

    Attributes:
        start: Where it begins in the file, bytes.
        end: Where it ends by now, bytes.
        num_rows: Rows in it.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Begin where the file ends by now."""
        self._file, self.start, self.num_rows = file, file.tell(), 0
        self.end = self.start

    def writable(self) -> bool:
        """Return that it is."""
        return True

    def write(self, data: Any) -> int:
        """Append bytes; return how many."""
        # the Parquet writer of a part that was given up still ends it when it goes
        if not self._file.closed:
            self._file.write(data)
        self.end += len(data)
        return len(data)

    def tell(self) -> int:
        """Return its size by now, bytes."""
        return self.end - self.start


@contextmanager
def open_writers() -> Iterator[dict[Split, PartWriter]]:
    """Yield a writer for every split, each with a local file of its own that is gone after the block."""
    with ExitStack() as files:
        yield {
            split: PartWriter(split, files.enter_context(tempfile.TemporaryFile(prefix="crrg-parts-")))
            for split in Split
        }


def describe_part(data: bytes) -> dict[str, Any]:
    """Return size and digest of a part, and place and digest of each row group and of the footer.

    Args:
        data: The whole file.
    """
    metadata = open_parquet(data).metadata
    groups = []
    end = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        start = min(_first_byte(group.column(column)) for column in range(group.num_columns))
        columns = [group.column(column) for column in range(group.num_columns)]
        end = max(_first_byte(column) + column.total_compressed_size for column in columns)
        groups.append({"num_rows": group.num_rows, **_describe_range(data, start, end)})
    return {
        "num_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "row_groups": groups,
        "footer": _describe_range(data, end, len(data)),
    }


def _describe_range(data: bytes, start: int, end: int) -> Mapping[str, Any]:
    return {"start": start, "end": end, "sha256": hashlib.sha256(memoryview(data)[start:end]).hexdigest()}


def _first_byte(column: pq.ColumnChunkMetaData) -> int:
    return int(column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset)


def _open_writer(part: _Part) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        part,
        PAIR_SCHEMA,
        compression=_COMPRESSION,
        use_dictionary=list(_WORD_COLUMNS),
        write_statistics=list(_STATISTICS_COLUMNS),
        write_page_index=True,
    )
