"""What an ingest read of every object, so that the next one reads only what is new or changed.

One Parquet file per ingest under ``datasets/<name>/_inputs/``. Objects are named by the HMAC of their keys, and what an
archive's tables say of them by an HMAC too. Losing these records costs nothing but reading again. Knows no decoder.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

import crrg
from crrg.config.references import DatasetRef
from crrg.data.archives.sources import SourceItem
from crrg.data.dataset.acquisition_table import Acquisitions, read_acquisitions
from crrg.data.dataset.pairs import list_versions, read_manifest, resolve_dataset
from crrg.data.dataset.reader import PairReader
from crrg.data.parquet import read_parquet
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.refusals import depends_on_limits, may_pass
from crrg.domain.study import Pair, Split
from crrg.errors import StorageError
from crrg.storage import Storage, canonical_json

_SUMMARY = b"crrg_ingest"
_SCHEMA = pa.schema(
    [
        pa.field("object_id", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),
        pa.field("said", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("instance_id", pa.string(), nullable=False),
        pa.field("pixel_digest", pa.binary(), nullable=False),
        pa.field("winner", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("sentence", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
    ]
)
_ROW_CODE = ("data", "domain", "evaluation")
"""Folders whose code decides what a row holds."""


@dataclass(frozen=True, slots=True)
class InputRecord:
    """What became of one object.

    Attributes:
        object_id: HMAC of its key.
        etag: The store's version mark.
        num_bytes: Size.
        said: HMAC of what the archive's tables say of it.
        split: Split of its row; empty where it has none.
        row: Number of its row in that split; -1 where it has none.
        instance_id: Pseudonym of the film; empty where it was refused before it was known.
        pixel_digest: sha256 over the film's shape and pixels; empty likewise.
        winner: ``object_id`` of the equal film that counts in its stead; empty where there is none.
        reason: Reason code; empty for a row.
        sentence: The reason in words.
        stage: Where it was refused.
    """

    object_id: str
    etag: str
    num_bytes: int
    said: str
    split: str = ""
    row: int = -1
    instance_id: str = ""
    pixel_digest: bytes = b""
    winner: str = ""
    reason: str = ""
    sentence: str = ""
    stage: str = ""


class EarlierInputs(Protocol):
    """What was made of objects before, so that they need not be read."""

    def find(self, object_id: str, etag: str, num_bytes: int, said: str) -> InputRecord | None:
        """Return what became of the very same object with the same words about it, if that is known."""

    def pair(self, record: InputRecord) -> Pair:
        """Return the row that an object became.

        Raises:
            StorageError: The row cannot be read any more.
        """


class KnownInputs:
    """The record of an earlier ingest whose rows would be the same today; empty where there is none."""

    def __init__(self, storage: Storage, dataset: DatasetRef | None, records: Iterable[InputRecord]) -> None:
        """Keep the records and where their rows lie."""
        self._storage = storage
        self._dataset = dataset
        self._records = {record.object_id: record for record in records}
        self._readers: dict[str, PairReader] = {}
        self._acquisitions: Acquisitions | None = None

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._records)

    def keep_present(self, versions: Mapping[str, str]) -> None:
        """Forget objects that are gone or changed, and those refused for the sake of one that is.

        Args:
            versions: ETag by ``object_id`` of what the archives hold now.
        """
        records = self._records
        present = {name for name, record in records.items() if versions.get(name) == record.etag}
        self._records = {
            name: record
            for name, record in records.items()
            if name in present and (not record.winner or record.winner in present)
        }

    def find(self, object_id: str, etag: str, num_bytes: int, said: str) -> InputRecord | None:
        """Return what became of the very same object with the same words about it, if that is known and may stay so."""
        record = self._records.get(object_id)
        if record is None or (record.etag, record.num_bytes, record.said) != (etag, num_bytes, said):
            return None
        return None if may_pass(record.reason) or depends_on_limits(record.reason) else record

    def pair(self, record: InputRecord) -> Pair:
        """Return the row that an object became.

        Raises:
            StorageError: The row cannot be read any more.
        """
        if self._dataset is None:
            raise AssertionError("unreachable: a record comes with its dataset")
        if record.split not in self._readers:
            self._readers[record.split] = PairReader(self._storage, self._dataset, Split(record.split))
        if self._acquisitions is None:
            self._acquisitions = read_acquisitions(self._storage, read_manifest(self._storage, self._dataset))
        pair = self._readers[record.split][record.row]
        return replace(pair, acquisition=self._acquisitions[pair.instance_id])


def read_known_inputs(storage: Storage, name: str, row_key: str) -> KnownInputs:
    """Return the newest record whose rows are made as they would be made now.

    Args:
        storage: Where ``datasets/`` lies.
        name: Dataset name.
        row_key: Digest of what shapes a single row.
    """
    versions = set(list_versions(storage, name))
    for stored in sorted(storage.list_objects(_folder(name, row_key)), key=lambda each: each.modified_s, reverse=True):
        records, summary = read_inputs(storage, stored.key)
        if summary.get("version") not in versions:
            continue
        dataset = resolve_dataset(storage, name, summary["version"])
        return KnownInputs(storage, dataset, records)
    return KnownInputs(storage, None, ())


def read_summary(storage: Storage, name: str, row_key: str, inputs_digest: str) -> dict[str, Any] | None:
    """Return the counts of an ingest of the very same inputs; ``None`` where there was none.

    Args:
        storage: Where ``datasets/`` lies.
        name: Dataset name.
        row_key: Digest of what shapes a single row.
        inputs_digest: Digest of inputs and settings.
    """
    key = f"{_folder(name, row_key)}/{inputs_digest}.parquet"
    return _read(storage, key)[1] or None if storage.exists(key) else None


def records_of(storage: Storage, name: str, row_key: str, inputs_digest: str) -> list[InputRecord]:
    """Return what an ingest of the very same inputs recorded of its films; nothing where it is damaged."""
    return read_inputs(storage, f"{_folder(name, row_key)}/{inputs_digest}.parquet")[0]


def write_inputs(
    storage: Storage,
    name: str,
    row_key: str,
    inputs_digest: str,
    records: Iterable[InputRecord],
    summary: Mapping[str, Any],
) -> None:
    """Write the record of one ingest; see ``read_known_inputs`` and ``read_summary``."""
    put_inputs(storage, f"{_folder(name, row_key)}/{inputs_digest}.parquet", records, summary)


def read_inputs(storage: Storage, key: str) -> tuple[list[InputRecord], dict[str, Any]]:
    """Return the records and counts under a key; both empty where they are damaged."""
    table, summary = _read(storage, key)
    return [InputRecord(**row) for row in table.to_pylist()], summary


def put_inputs(storage: Storage, key: str, records: Iterable[InputRecord], summary: Mapping[str, Any]) -> None:
    """Write records and counts under a key."""
    table = pa.Table.from_pylist([asdict(record) for record in records], schema=_SCHEMA)
    table = table.replace_schema_metadata({_SUMMARY: canonical_json(dict(summary))})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="LZ4")
    storage.put(key, sink.getvalue())


def what_is_said(item: SourceItem, pseudonyms: Pseudonyms, site: str) -> str:
    """Return an HMAC over everything an archive says of a film that its row depends on.

    Args:
        item: What the archive says.
        pseudonyms: With the secret.
        site: Where identifiers of the archive's tables are valid.
    """
    said = asdict(replace(item, film=None, problem=None, split=None, group=""))
    return pseudonyms.object_key(json.dumps(said, sort_keys=True, default=str), f"said\0{site}")


@cache
def row_code_digest() -> str:
    """Return a digest over the code that decides what a row holds, so that a change of it reads everything again."""
    digest = hashlib.sha256(crrg.__version__.encode())
    package = Path(crrg.__file__).parent
    for path in sorted(path for folder in _ROW_CODE for path in (package / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def stale(record: InputRecord) -> StorageError:
    """Return the error that says that an earlier record does not fit what is there now."""
    return StorageError("the record of an earlier ingest does not fit any more", record.object_id)


def _read(storage: Storage, key: str) -> tuple[pa.Table, dict[str, Any]]:
    """Return a record's rows and counts; both empty where it is damaged, since it can be made again."""
    try:
        table = read_parquet(storage.get(key))
        return table, json.loads((table.schema.metadata or {})[_SUMMARY])
    except (ValueError, KeyError, OSError):
        return _SCHEMA.empty_table(), {}


def _folder(name: str, row_key: str) -> str:
    return f"datasets/{name}/_inputs/{row_key}"
