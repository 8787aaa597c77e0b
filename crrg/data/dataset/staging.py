"""Rows of a dataset on their way: kept in local files until it is known which of them stay, and in which split.

Which of equal films counts and which patients belong together is known only when everything was read; until then rows
wait on disk, so that memory does not grow with the archive. The files have no name: films and reports do not outlive a
process that is killed. Knows no Parquet (``parts``) and no store.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from crrg.data.dataset.pair_schema import pair_to_row
from crrg.domain.study import Pair
from crrg.storage import canonical_json

_BYTES_COLUMNS = ("source_digest", "pixel_digest")


class StagedRows:
    """Rows in the order in which they came, written once and read once."""

    def __init__(self) -> None:
        """Begin without a row; close it in the end."""
        self._images = tempfile.TemporaryFile(prefix="crrg-images-")  # noqa: SIM115 - outlives this call
        self._rows = tempfile.TemporaryFile(prefix="crrg-rows-")  # noqa: SIM115 - outlives this call
        self._num_rows = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._num_rows

    def add(self, pair: Pair) -> None:
        """Keep a pair; its split is not kept."""
        row = pair_to_row(pair)
        if row["image"] is not None:
            self._images.write(row["image"])
        self._rows.write(_line(row))
        self._num_rows += 1

    def close(self) -> None:
        """Give the rows up."""
        self._images.close()
        self._rows.close()

    def rows(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yield each row with its digest: sha256 over everything but the pixels, which ``pixel_digest`` stands for."""
        self._images.seek(0)
        self._rows.seek(0)
        for line in self._rows:
            row = json.loads(line)
            num_bytes = row.pop("image_bytes")
            row["image"] = None if num_bytes is None else self._images.read(num_bytes)
            for column in _BYTES_COLUMNS:
                row[column] = None if row[column] is None else bytes.fromhex(row[column])
            yield row, hashlib.sha256(line).digest()


def row_digest(row: Mapping[str, Any]) -> bytes:
    """Return the digest of a row of ``PAIR_SCHEMA``, as ``StagedRows.rows`` yields it."""
    return hashlib.sha256(_line(row)).digest()


def _line(row: Mapping[str, Any]) -> bytes:
    """Return everything of a row but its pixels as one line."""
    image = row["image"]
    plain = {name: value for name, value in row.items() if name != "image"}
    return canonical_json({**_as_text(plain), "image_bytes": None if image is None else len(image)}) + b"\n"


def _as_text(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, **{column: row[column] and row[column].hex() for column in _BYTES_COLUMNS}}
