"""What shards of an ingest made of their films, on its way into the dataset: Parquet under ``staging/ingest/<name>/``.

One file per shard, put in one piece where there is none. A staged row is what would stand in the dataset: pseudonymous
and masked, so nothing of a source's names is staged. It is found by the object, its version and what the archive says
of it; whatever is missing, damaged or out of date is simply read again. Knows no decoder.
"""

from __future__ import annotations

import io
import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crrg.data.dataset.pair_schema import PAIR_SCHEMA, pair_to_row, row_to_pair
from crrg.data.parquet import open_parquet
from crrg.domain.acquisition import UNKNOWN, WORDS, Acquisition
from crrg.domain.study import Pair, Split
from crrg.errors import StorageError
from crrg.operations.ingest.inputs import EarlierInputs, InputRecord
from crrg.storage import Storage

logger = logging.getLogger(__name__)

ROWS_READ_AT_ONCE = 32
"""Rows of a row group: 8 MB of films of 512 px, the most that the reader holds of a shard."""
LEFT_OVER_AFTER_S = 7 * 24 * 3600
"""A shard this old belongs to an ingest that nobody ended."""


def _without_dictionaries(kind: pa.DataType) -> pa.DataType:
    """Return a type whose words are plain strings: Arrow cannot write dictionaries within a row that may be null."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _without_dictionaries(field.type)) for field in kind])
    if pa.types.is_fixed_size_list(kind):
        return kind
    return pa.list_(_without_dictionaries(kind.value_type)) if pa.types.is_list(kind) else kind


_RECORD_COLUMNS = ("object_id", "etag", "said", "split", "reason", "sentence", "stage")
_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in _RECORD_COLUMNS),
        pa.field("num_bytes", pa.int64(), nullable=False),
        *(pa.field(name, pa.string()) for name in WORDS),
        pa.field("pair", _without_dictionaries(pa.struct(list(PAIR_SCHEMA)))),
    ]
)


def staging_folder(dataset: str) -> str:
    """Return where all shards of a dataset lie."""
    return f"staging/ingest/{dataset}"


def staging_prefix(dataset: str, row_key: str) -> str:
    """Return where shards of a dataset lie whose rows are made in one way."""
    return f"{staging_folder(dataset)}/{row_key}"


class StagedShardWriter:
    """Takes the outcomes of a shard one by one; holds packed rows only."""

    def __init__(self) -> None:
        """Start an empty shard."""
        self.num_inputs = self.num_refused = 0
        self._sink = io.BytesIO()
        self._writer = pq.ParquetWriter(self._sink, _SCHEMA, compression="LZ4", use_dictionary=False)
        self._rows: list[dict[str, Any]] = []

    def add(self, record: InputRecord, pair: Pair | None) -> None:
        """Append what became of an input.

        Args:
            record: Which input it is, and why it was refused.
            pair: Its row; ``None`` where it was refused.
        """
        row = {name: value for name, value in asdict(record).items() if name in _SCHEMA.names}
        row |= {"split": pair.split.value if pair else "", **asdict(pair.acquisition if pair else UNKNOWN)}
        self._rows.append({**row, "pair": None if pair is None else pair_to_row(pair)})
        self.num_inputs += 1
        self.num_refused += pair is None
        if len(self._rows) == ROWS_READ_AT_ONCE:
            self._flush()

    def data(self) -> bytes:
        """End the shard and return its file."""
        self._flush()
        self._writer.close()
        return self._sink.getvalue()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
            self._rows = []


@dataclass(frozen=True, slots=True)
class _Place:
    key: str
    row: int
    etag: str
    num_bytes: int


class StagedInputs:
    """What shards staged, and beneath it what an earlier ingest made of the same objects; ``EarlierInputs``."""

    def __init__(self, storage: Storage, prefix: str, earlier: EarlierInputs) -> None:
        """Look at the shards under a prefix; pictures are read when they are asked for.

        Args:
            storage: The root.
            prefix: Where the shards lie; see ``staging_prefix``.
            earlier: What is known of objects that no shard holds.
        """
        self.num_found = 0
        self._storage, self._earlier = storage, earlier
        self._places: dict[tuple[str, str], _Place] = {}
        self._ready: dict[tuple[str, str], list[Pair]] = {}
        self._file: tuple[str, pq.ParquetFile | None] = ("", None)
        self._group: tuple[str, int, list[dict[str, Any]]] = ("", -1, [])
        for stored in storage.list_objects(prefix):
            if stored.key.endswith(".parquet"):
                self._look_at(stored.key)

    def find(self, object_id: str, etag: str, num_bytes: int, said: str) -> InputRecord | None:
        """Return what became of the very same object with the same words about it, if that is known."""
        record = self._earlier.find(object_id, etag, num_bytes, said)
        place = self._places.get((object_id, said))
        if record is not None or place is None or (place.etag, place.num_bytes) != (etag, num_bytes):
            return record
        row = self._read(place)
        if row is None:
            return None
        self.num_found += 1
        if row["pair"] is not None:
            known = Acquisition(**{name: row[name] for name in WORDS})
            self._ready.setdefault((object_id, said), []).append(row_to_pair(row["pair"], Split(row["split"]), known))
        return InputRecord(**{name: row[name] for name in (*_RECORD_COLUMNS, "num_bytes")})

    def pair(self, record: InputRecord) -> Pair:
        """Return the row of an object that ``find`` found; once for each time that it was found.

        Raises:
            StorageError: The row cannot be read any more.
        """
        waiting = self._ready.get((record.object_id, record.said))
        if not waiting:
            return self._earlier.pair(record)
        pair = waiting.pop()
        if not waiting:
            del self._ready[record.object_id, record.said]
        return pair

    def close(self) -> None:
        """Forget what was read."""
        self._file, self._group = ("", None), ("", -1, [])

    def _look_at(self, key: str) -> None:
        try:
            with self._storage.open_binary(key) as opened:
                file = open_parquet(opened)
                if not file.schema_arrow.equals(_SCHEMA):
                    raise ValueError("another schema")
                table = file.read(columns=["object_id", "said", "etag", "num_bytes"], use_threads=False)
        except (StorageError, ValueError, OSError):
            logger.warning("a staged shard cannot be used and is read again: %s", key)
            return
        for number, row in enumerate(table.to_pylist()):
            self._places[row["object_id"], row["said"]] = _Place(key, number, row["etag"], row["num_bytes"])

    def _read(self, place: _Place) -> dict[str, Any] | None:
        """Return a staged row, reading a row group at a time; ``None`` where it cannot be read any more."""
        group, index = divmod(place.row, ROWS_READ_AT_ONCE)
        if self._group[:2] != (place.key, group):
            try:
                rows = self._open(place.key).read_row_group(group, use_threads=False).to_pylist()
            except (StorageError, ValueError, OSError):
                return None
            self._group = (place.key, group, rows)
        return self._group[2][index]

    def _open(self, key: str) -> pq.ParquetFile:
        name, file = self._file
        if name != key or file is None:
            file = open_parquet(self._storage.open_binary(key))
            self._file = (key, file)
        return file


def clear_staged(storage: Storage, dataset: str, row_key: str) -> None:
    """Remove the shards of a committed version, and those of the dataset that nobody came back for.

    What cannot be removed now is old enough one day; an ingest that is done does not fail for it.

    Args:
        storage: The root.
        dataset: Dataset name.
        row_key: How the committed rows were made; see ``staging_prefix``.
    """
    used, now_s = staging_prefix(dataset, row_key) + "/", time.time()
    try:
        for stored in storage.list_objects(staging_folder(dataset)):
            if stored.key.startswith(used) or now_s - stored.modified_s > LEFT_OVER_AFTER_S:
                storage.discard(stored.key)
    except StorageError as error:
        logger.warning("staged shards of dataset %s were not removed: %s", dataset, error.reason)
