"""Small tables beside films: CSV and Parquet files as rows of text, and what their columns mean.

Knows the column names under which archives keep the same things; an archive's own rules stand in its own file.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import pyarrow.parquet as pq

from crrg.domain.labels import LABELS, LabelValues, label_column
from crrg.domain.study import ViewPosition
from crrg.errors import DataError
from crrg.storage import Storage

TABLE_SUFFIXES = (".csv", ".parquet")
MAX_TABLE_BYTES = 512 * 2**20
Row: TypeAlias = "dict[str, Any]"

_FRONTAL = re.compile(r"\b(PA|AP)\b")
_LABEL_NAMES = {name: label for label in LABELS for name in (label, label.lower(), label_column(label))}
# the name of the same observation in labels by people (test sets of CheXpert and MIMIC-CXR)
_LABEL_NAMES["Airspace Opacity"] = "Lung Opacity"


def read_rows(storage: Storage, key: str) -> list[Row]:
    """Read a CSV (UTF-8, with or without byte order mark) or Parquet table as a whole; see ``iterate_rows``."""
    return list(iterate_rows(storage, key))


def iterate_rows(storage: Storage, key: str) -> Iterator[Row]:
    """Read a CSV (UTF-8, with or without byte order mark) or Parquet table row by row.

    A row as a value takes many times the room that it takes in the file: large tables are read this way.

    Raises:
        DataError: PARSE.TABLE where it cannot be read, LIMIT.TABLE where it is too large.
    """
    data = storage.get(key)
    if len(data) > MAX_TABLE_BYTES:
        raise DataError(f"the table has {len(data)} bytes, at most {MAX_TABLE_BYTES} are read", code="LIMIT.TABLE")
    try:
        if key.lower().endswith(".parquet"):
            for batch in pq.ParquetFile(io.BytesIO(data)).iter_batches():
                yield from batch.to_pylist()
        else:
            csv.field_size_limit(2**20)
            yield from csv.DictReader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""))
    except (ValueError, OSError, csv.Error) as error:
        raise DataError(f"the table cannot be read ({type(error).__name__})", code="PARSE.TABLE") from error


def text_of(row: Mapping[str, Any], *names: str) -> str:
    """Return the first of several columns that has text; empty where none has."""
    for name in names:
        value = row.get(name)
        if value is not None and not (isinstance(value, float) and math.isnan(value)):
            text = str(value).strip()
            if text:
                return text
    return ""


def view_of(text: str) -> ViewPosition | None:
    """Return the projection that a table names (``AP Supine``, ``frontal``, ``L``), ``None`` where it says nothing."""
    upper = text.upper().strip()
    if not upper:
        return None
    frontal = _FRONTAL.search(upper)
    if frontal:
        return ViewPosition(frontal.group(1))
    if upper == "LL":
        return ViewPosition.LL
    return ViewPosition.UNKNOWN if upper in ("FRONTAL", "UNKNOWN") else ViewPosition.LATERAL


def labels_of(row: Mapping[str, Any]) -> LabelValues:
    """Return the labels that a row's columns hold, by any spelling of their names; blank cells are unmentioned."""
    labels: dict[str, int | None] = {}
    for name, value in row.items():
        label = _LABEL_NAMES.get(name)
        if label is None or text_of(row, name) == "":
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if number in (-1.0, 0.0, 1.0):
            labels[label] = int(number)
    return labels
