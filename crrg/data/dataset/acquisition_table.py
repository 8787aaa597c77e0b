"""Sex, age band and maker of a dataset version's films: a small table beside the parts, a row per image.

The columns of the parts are what other programs rely on, so this stands apart: ``_acquisition.parquet`` in the
version's folder, outside of ``split=…`` and with the mark by which readers of folders leave a file out. The manifest
names it under ``acquisition``, never among ``files``. A version of which nothing of the kind is known has no table and
is to the byte what it was before there was any; whoever reads it finds all unknown.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crrg.checked_json import check_schema_version
from crrg.data.parquet import read_parquet
from crrg.domain.acquisition import UNKNOWN, WORDS, Acquisition
from crrg.storage import Storage, hash_json

SCHEMA_VERSION = 1
TABLE_NAME = "_acquisition.parquet"
MANIFEST_FIELD = "acquisition"
_WORD = pa.dictionary(pa.int8(), pa.string())
_SCHEMA = pa.schema(
    [pa.field("instance_id", pa.string(), nullable=False), *(pa.field(name, _WORD) for name in WORDS)],
    metadata={"crrg_schema": f"acquisition-{SCHEMA_VERSION}"},
)


class AcquisitionRows:
    """What is known of the films of a version on its way."""

    def __init__(self) -> None:
        """Start without a film."""
        self._rows: dict[str, Acquisition] = {}

    @property
    def has_known(self) -> bool:
        """Whether anything is known of any film; otherwise there is no table."""
        return any(acquisition.is_known for acquisition in self._rows.values())

    @property
    def content_digest(self) -> str:
        """Digest over all rows, independent of their order and of how Parquet lays them out."""
        return hash_json([list(row.values()) for row in self._sorted_rows()], 64)

    def add(self, row: Mapping[str, Any], acquisition: Acquisition) -> None:
        """Note what is known of a row of ``PAIR_SCHEMA``; a row without an image has none."""
        if row["image"] is not None:
            self._rows[row["instance_id"]] = acquisition

    def send(self, storage: Storage, prefix: str) -> dict[str, Any]:
        """Put the table into a version's folder and return its entry in the manifest."""
        rows = self._sorted_rows()
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), sink, compression="zstd")
        data, key = sink.getvalue(), f"{prefix}/{TABLE_NAME}"
        storage.put(key, data)
        return {
            "key": key,
            "num_rows": len(rows),
            "num_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "schema_version": SCHEMA_VERSION,
        }

    def _sorted_rows(self) -> list[dict[str, str | None]]:
        """Return the rows by id, so that equal content gives equal bytes."""
        return [
            {"instance_id": instance_id, **{name: getattr(acquisition, name) for name in WORDS}}
            for instance_id, acquisition in sorted(self._rows.items())
        ]


class Acquisitions:
    """What a version's table says of its films; all unknown where there is no table."""

    def __init__(self, rows: Mapping[str, Acquisition]) -> None:
        """Keep what is known, by pseudonym of the image."""
        self._rows = rows

    def __getitem__(self, instance_id: str) -> Acquisition:
        """Return what is known of a film."""
        return self._rows.get(instance_id, UNKNOWN)


def read_acquisitions(storage: Storage, manifest: Mapping[str, Any]) -> Acquisitions:
    """Read the table that a dataset's manifest names, if it names one.

    Args:
        storage: Where ``datasets/`` lies.
        manifest: See ``crrg.data.dataset.pairs.read_manifest``.

    Raises:
        DigestMismatch: The bytes are not the recorded ones.
        StorageError: Its schema version is not one that this program knows.
    """
    entry = manifest.get(MANIFEST_FIELD)
    if entry is None:
        return Acquisitions({})
    check_schema_version(entry["schema_version"], [SCHEMA_VERSION], entry["key"])
    table = read_parquet(storage.get_verified(entry["key"], entry["sha256"]))
    rows = table.select(_SCHEMA.names).to_pylist()
    return Acquisitions({row["instance_id"]: _acquisition_of(row) for row in rows})


def _acquisition_of(row: Mapping[str, Any]) -> Acquisition:
    """Return a row's words; one that this program's lists lack, such as a maker added later, is unknown to it."""
    return Acquisition(**{name: row[name] if row[name] in words else None for name, words in WORDS.items()})
