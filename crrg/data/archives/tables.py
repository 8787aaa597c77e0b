"""Small tables beside films: CSV and Parquet files as rows of text, and what their columns mean.

Knows the column names under which archives keep the same things; an archive's own rules stand in its own file.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import pyarrow as pa

from crrg.data.parquet import open_parquet
from crrg.domain.labels import LABELS, LabelValues, label_column
from crrg.errors import AnnotationError, DataError
from crrg.storage import Storage

TABLE_SUFFIXES = (".csv", ".parquet")
MAX_TABLE_BYTES = 512 * 2**20
MAX_TABLE_ROWS = 5_000_000
"""A short row takes next to no room in a file, least of all in Parquet, but hundreds of bytes in memory."""
MAX_CELL_CHARACTERS = 64 * 2**20
"""Longer than any document that a system writes into a cell: such a report is refused alone, its table is not."""
_DELIMITERS = ",;\t|"
_NOT_UTF_8 = "the table is not UTF-8; save it as UTF-8 and start again"
_QUOTED = re.compile(r'"[^"]*"')
_SEPARATOR_LINE = re.compile(r'"?sep=([^"])"?\s*', re.IGNORECASE)
Row: TypeAlias = "dict[str, Any]"

LABEL_NAMES = {name: label for label in LABELS for name in (label, label.lower(), label_column(label))}
# the name of the same observation in labels by people (test sets of CheXpert and MIMIC-CXR)
LABEL_NAMES["Airspace Opacity"] = "Lung Opacity"
_LABEL_VALUES = {
    word: value
    for value, words in (
        (1, ("1", "1.0", "positive", "yes", "true")),
        (0, ("0", "0.0", "-0.0", "negative", "no", "false")),
        (-1, ("-1", "-1.0", "uncertain")),
    )
    for word in words
}
_NO_VALUE = frozenset(("", "nan", "na", "n/a", "none", "null", "unmentioned"))


def read_rows(storage: Storage, key: str) -> list[Row]:
    """Read a CSV or Parquet table as a whole; see ``iterate_rows``."""
    return list(iterate_rows(storage, key))


def iterate_rows(storage: Storage, key: str) -> Iterator[Row]:
    """Read a CSV or Parquet table row by row.

    A CSV is UTF-8, with or without byte order mark, or UTF-16 with one; cells are set apart by what stands most often
    in the header line of comma, semicolon, tab and bar, or by what a first line ``sep=;`` names, as spreadsheet
    programs have it. Lines without text before the header do not count. Of columns of one name the first counts that
    has text in a row. Quotes that do not close would run the texts of several rows into one, and cells beyond the
    header are most often the rest of a text: such a table is not read. A row as a value takes many times the room that
    it takes in the file: large tables are read this way.

    Raises:
        DataError: PARSE.TABLE where it cannot be read, LIMIT.TABLE where it is too large.
    """
    data = storage.get(key)
    if len(data) > MAX_TABLE_BYTES:
        raise DataError(f"the table has {len(data)} bytes, at most {MAX_TABLE_BYTES} are read", code="LIMIT.TABLE")
    is_parquet = key.lower().endswith(".parquet")
    try:
        if is_parquet:
            file = open_parquet(data)
            _check_rows(file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=4096, use_threads=False):
                yield from batch.to_pylist()
        else:
            yield from _csv_rows(data)
    except UnicodeDecodeError as error:
        line = "" if is_parquet else f"line {_first_undecodable_line(data)}: "
        raise DataError(f"{line}{_NOT_UTF_8}", code="PARSE.TABLE") from error
    except (ValueError, OSError, pa.ArrowException) as error:
        raise DataError(f"the table cannot be read ({type(error).__name__})", code="PARSE.TABLE") from error


def _csv_rows(data: bytes) -> Iterator[Row]:
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    if data[:1] == b"\0" or data[1:2] == b"\0":
        # UTF-16 without its mark is legal UTF-8 with a zero at every other place
        raise DataError(_NOT_UTF_8, code="PARSE.TABLE")
    text = io.TextIOWrapper(io.BytesIO(data), encoding=_encoding_of(data), newline="")
    delimiter, num_before = _find_header(text)
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
    names: list[str] | None = None
    num_rows = 0
    while True:
        line = num_before + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _damaged(line, error) from None
        if cells is None:
            return
        if names is None:
            names = cells
        elif cells:
            num_rows += 1
            _check_rows(num_rows)
            yield _row(names, cells, line)


def _row(names: list[str], cells: list[str], line: int) -> Row:
    """Return the cells of a line by column; ``None`` where the line is short."""
    if any(cell.strip() for cell in cells[len(names) :]):
        reason = f"line {line} of the table has more cells than its header; put text with delimiters in quotes"
        raise DataError(reason, code="PARSE.TABLE")
    row: Row = dict.fromkeys(names)
    for name, cell in zip(names, cells, strict=False):
        row[name] = row[name] if text_of(row, name) else cell
    return row


def _damaged(line: int, error: csv.Error) -> DataError:
    """Return what is wrong with a line, without a word of it."""
    if "limit" in str(error):
        reason = f"line {line} of the table begins a cell longer than {MAX_CELL_CHARACTERS} characters; remove it"
        return DataError(reason, code="LIMIT.TABLE")
    reason = (
        f"line {line} of the table begins a quoted cell that is not closed, or that continues after its closing "
        "quote; double every quote inside a cell"
    )
    return DataError(reason, code="PARSE.TABLE")


def _check_rows(num_rows: int) -> None:
    if num_rows > MAX_TABLE_ROWS:
        raise DataError(f"the table has {num_rows} rows or more, at most {MAX_TABLE_ROWS} are read", code="LIMIT.TABLE")


def _encoding_of(data: bytes) -> str:
    return "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def _first_undecodable_line(data: bytes) -> int:
    encoding = "utf-16" if _encoding_of(data) == "utf-16" else "utf-8"
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return data[: error.start].decode(encoding, "replace").count("\n") + 1
    raise AssertionError("unreachable: asked for a table that cannot be decoded")


def _find_header(text: io.TextIOWrapper) -> tuple[str, int]:
    """Go to the header line; return what sets its names apart (a comma where nothing does) and the lines before it."""
    place, num_before, line = 0, 0, text.readline()
    named = _SEPARATOR_LINE.fullmatch(line.rstrip("\r\n"))
    blank = f'{_DELIMITERS}" \r\n{named[1] if named else ""}'
    while line and ((named and num_before == 0) or not line.strip(blank)):
        place, num_before, line = text.tell(), num_before + 1, text.readline()
    text.seek(place)
    outside = _QUOTED.sub("", line)
    return named[1] if named else max(_DELIMITERS, key=outside.count), num_before


def text_of(row: Mapping[str, Any], *names: str) -> str:
    """Return the first of several columns that has text; empty where none has."""
    for name in names:
        value = row.get(name)
        if value is not None and not (isinstance(value, float) and math.isnan(value)):
            text = str(value).strip()
            if text:
                return text
    return ""


def labels_of(row: Mapping[str, Any]) -> LabelValues:
    """Return the labels that a row's columns hold, by any spelling of their names; blank cells are unmentioned.

    Raises:
        AnnotationError: INTEGRITY.LABELS where a cell is no value of a label: what it says is not known.
    """
    labels: dict[str, int | None] = {}
    for name in row:
        label, value = LABEL_NAMES.get(name), text_of(row, name).lower()
        if label is None or value in _NO_VALUE:
            continue
        if value not in _LABEL_VALUES:
            reason = "a label cell is none of 1, 0, -1, blank, or positive, negative, uncertain, yes, no, true, false"
            raise AnnotationError(reason, code="INTEGRITY.LABELS")
        labels[label] = _LABEL_VALUES[value]
    return labels
