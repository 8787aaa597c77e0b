"""Rows of a dataset on their way: kept in a local folder until it is known which of them stay, and in which split.

Which of equal films counts and which patients belong together is known only when everything was read; until then rows
wait on disk, so that memory does not grow with the archive. Knows no Parquet (``parts``) and no store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crrg.data.dataset.pair_schema import pair_to_row
from crrg.domain.study import Pair
from crrg.storage import canonical_json

_BYTES_COLUMNS = ("source_digest", "pixel_digest")


class StagedRows:
    """Rows in the order in which they came, written once and read once."""

    def __init__(self, folder: Path) -> None:
        """Stage into ``folder``, which the caller removes."""
        self._images_path, self._rows_path = folder / "images", folder / "rows"
        self._images, self._rows = self._images_path.open("wb"), self._rows_path.open("wb")
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
        """End writing."""
        self._images.close()
        self._rows.close()

    def rows(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yield each row with its digest: sha256 over everything but the pixels, which ``pixel_digest`` stands for."""
        with self._images_path.open("rb") as images, self._rows_path.open("rb") as rows:
            for line in rows:
                row = json.loads(line)
                num_bytes = row.pop("image_bytes")
                row["image"] = None if num_bytes is None else images.read(num_bytes)
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
