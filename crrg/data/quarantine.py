"""The record of refused inputs: why, never who.

One Parquet file per ingest under ``quarantine/<dataset>/``. An input is named by the HMAC of its key; the source's
name, identifiers and text are not kept.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from crrg.data.refusals import is_failure
from crrg.storage import Storage

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("object_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("etag", pa.string()),
        pa.field("num_bytes", pa.int64()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("sentence", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("ingested_version", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Refusal:
    """One refused input.

    Attributes:
        object_id: HMAC of its key.
        source: Kind of archive.
        etag: The store's version mark; empty for a table row.
        num_bytes: Size; 0 for a table row.
        reason: Reason code ``FAMILY.DETAIL``.
        sentence: What was expected and got, in words.
        stage: Where it was refused: ``source``, ``decode``, ``identity``, ``report``, ``duplicate``.
    """

    object_id: str
    source: str
    etag: str
    num_bytes: int
    reason: str
    sentence: str
    stage: str

    @property
    def is_failure(self) -> bool:
        """Whether it counts in the share behind ``max_failure_rate``."""
        return is_failure(self.reason)


def quarantine_key(dataset: str, inputs_digest: str) -> str:
    """Return the key of an ingest's quarantine record."""
    return f"quarantine/{dataset}/{inputs_digest}.parquet"


def write_quarantine(storage: Storage, key: str, refusals: list[Refusal], version: str) -> None:
    """Write the record of one ingest, sorted; the same refusals give the same bytes."""
    rows = sorted(({**vars(refusal), "ingested_version": version} for refusal in refusals), key=_order)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA), sink, compression="LZ4")
    storage.put(key, sink.getvalue())


def count_reasons(refusals: list[Refusal]) -> dict[str, int]:
    """Return how many inputs were refused for each reason, sorted by reason."""
    return dict(sorted(Counter(refusal.reason for refusal in refusals).items()))


def _order(row: dict[str, object]) -> tuple[str, str]:
    return str(row["object_id"]), str(row["reason"])
