"""Parquet parts of one split: how rows lie in files, and what a manifest says of each file.

Row groups of 32 films of 512 px are 8 MB. ``benchmarks/reader_speed.py`` measures the choice, in films per second with
4, 8, 16, 32, 64 and 128 rows: an epoch in mixed windows of 256 films gives 599, 1507, 2238, 2520, 1307, 721; reads
without any neighbourhood 202, 193, 129, 49, 34, 15. Training reads in windows, so 32. A manifest names every row
group's bytes with their sha256, so that a reader who fetches only these can verify them (``reader``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
    """One split's rows on their way into local part files."""

    def __init__(self, folder: Path, split: Split) -> None:
        """Write into ``folder``, which the caller removes."""
        self.split = split
        self.num_rows = 0
        self._folder = folder
        self._rows: list[dict[str, Any]] = []
        self._parts: list[tuple[Path, int]] = []
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

        def send_part(path: Path, rows: int) -> dict[str, Any]:
            data = path.read_bytes()
            key = f"{prefix}/split={self.split.value}/{path.name.split('-', 1)[1]}"
            storage.put(key, data)
            return {"key": key, "split": self.split.value, "num_rows": rows, **describe_part(data)}

        with ThreadPoolExecutor(SENDERS, thread_name_prefix="crrg-send") as senders:
            return list(senders.map(send_part, *zip(*self._parts, strict=True))) if self._parts else []

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            path = self._folder / f"{self.split.value}-part-{len(self._parts):05d}.parquet"
            self._parts.append((path, 0))
            self._writer = _open_writer(path)
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=PAIR_SCHEMA))
        path, rows = self._parts[-1]
        self._parts[-1] = (path, rows + len(self._rows))
        self._rows = []
        if self._parts[-1][1] >= PART_ROWS:
            self._end_part()

    def _end_part(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


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


def _open_writer(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        PAIR_SCHEMA,
        compression=_COMPRESSION,
        use_dictionary=list(_WORD_COLUMNS),
        write_statistics=list(_STATISTICS_COLUMNS),
        write_page_index=True,
    )
