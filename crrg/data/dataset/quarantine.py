"""The record of refused inputs: why, never who.

Under ``quarantine/`` lies one Parquet file per ingest (``<dataset>/``) and one per night (``date=…/``), of one schema.
An input is named by the HMAC of its key; the source's name, identifiers and text are not kept.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crrg.data.refusals import is_failure
from crrg.errors import StorageError
from crrg.storage import Storage

INBOX = "inbox"
"""What stands as the source of what a night refused."""
SCHEMA_VERSION = 2
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("key_hmac", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("num_bytes", pa.int64()),
        pa.field("source_digest", pa.binary()),
        pa.field("study_id", pa.string(), nullable=False),
        pa.field("instance_id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("stage", pa.string()),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
    ],
    metadata={"schema": "crrg.quarantine", "schema_version": str(SCHEMA_VERSION)},
)
"""One row per refused input; see ``docs/operations.md``. Of an ingest there is no digest, no id and no run, of a night
no size and no stage: null, or empty."""
_FORMER_NAMES = {"object_id": "key_hmac", "sentence": "detail", "ingested_version": "version"}
"""What ingests called these columns in schema version 1; nights had other columns than ingests then."""


@dataclass(frozen=True)
class Refusal:
    """One refused input.

    Attributes:
        key_hmac: HMAC of its key.
        source: Kind of archive.
        etag: The store's version mark; empty for a table row.
        num_bytes: Size; 0 for a table row.
        reason: Reason code ``FAMILY.DETAIL``.
        detail: What was expected and got, in words.
        stage: Where it was refused: ``source``, ``decode``, ``identity``, ``report``, ``duplicate``.
    """

    key_hmac: str
    source: str
    etag: str
    num_bytes: int
    reason: str
    detail: str
    stage: str

    @property
    def is_failure(self) -> bool:
        """Whether it counts in the share behind ``max_failure_rate``."""
        return is_failure(self.reason)


def write_quarantine(storage: Storage, dataset: str, refusals: list[Refusal], version: str) -> dict[str, Any]:
    """Write the record of one ingest, sorted; the same refusals give the same bytes.

    Its key is a digest of it: another ingest of the same inputs may be given an object that this one was denied, and
    what a manifest names must stay what it was.

    Args:
        storage: Where ``quarantine/`` lies.
        dataset: Name of the dataset.
        refusals: What was refused.
        version: Of the program.

    Returns:
        Its entry in a manifest.
    """
    unknown = {"study_id": "", "instance_id": "", "run_id": ""}
    rows = sorted(({**vars(refusal), **unknown, "version": version} for refusal in refusals), key=_order)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA), sink, compression="LZ4")
    data = sink.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    key = f"quarantine/{dataset}/{digest[:16]}.parquet"
    storage.put(key, data)
    return {
        "key": key,
        "num_rows": len(rows),
        "num_bytes": len(data),
        "sha256": digest,
        "schema_version": SCHEMA_VERSION,
    }


def as_quarantine(table: pa.Table) -> pa.Table:
    """Return a table of ``quarantine/`` with the columns of today, also one of schema version 1.

    Args:
        table: As an ingest or a night wrote it.

    Raises:
        StorageError: It has columns that no version knows.
    """
    table = table.rename_columns([_FORMER_NAMES.get(name, name) for name in table.column_names])
    if odd := sorted(set(table.column_names) - set(QUARANTINE_SCHEMA.names)):
        raise StorageError(
            f"columns {', '.join(odd)} are not known; use the program version that wrote it", "quarantine"
        )
    columns = []
    for field in QUARANTINE_SCHEMA:
        if field.name in table.column_names:
            column = table[field.name].cast(field.type)
            columns.append(column if field.nullable else column.fill_null(""))
        else:
            nothing = None if field.nullable else INBOX if field.name == "source" else ""
            columns.append(pa.array([nothing] * table.num_rows, field.type))
    return pa.Table.from_arrays(columns, schema=QUARANTINE_SCHEMA)


def count_reasons(refusals: list[Refusal]) -> dict[str, int]:
    """Return how many inputs were refused for each reason, sorted by reason."""
    return dict(sorted(Counter(refusal.reason for refusal in refusals).items()))


def usual_details(refusals: list[Refusal]) -> dict[str, str]:
    """Return for each reason what it most often says in words, sorted by reason."""
    words: dict[str, Counter[str]] = {}
    for refusal in refusals:
        words.setdefault(refusal.reason, Counter())[refusal.detail] += 1
    usual = {reason: min(said, key=lambda detail: (-said[detail], detail)) for reason, said in words.items()}
    return {reason: usual[reason] + (", and others" if len(words[reason]) > 1 else "") for reason in sorted(usual)}


def _order(row: dict[str, object]) -> tuple[str, str]:
    return str(row["key_hmac"]), str(row["reason"])
