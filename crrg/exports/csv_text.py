"""CSV that a spreadsheet shows and never runs: a cell that could be taken for a formula begins with an apostrophe.

Source: OWASP, CSV Injection.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
OTHER_SEPARATORS = (";", "\t")
"""What spreadsheets part cells by, too, as their language or their user has it; between quotes they do not."""


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]], *, quote_all: bool = False) -> str:
    """Return a table as CSV.

    Args:
        header: Names of the columns.
        rows: Their cells; numbers stay numbers.
        quote_all: Whether every text is quoted, not only those of rows that need it.
    """
    return "".join([csv_row(header, quote_all=quote_all), *(csv_row(row, quote_all=quote_all) for row in rows)])


def csv_row(cells: Sequence[object], *, quote_all: bool = False) -> str:
    """Return one row of such a table, with the end of its line."""
    text = io.StringIO()
    needs_quotes = quote_all or any(
        mark in cell for cell in cells if isinstance(cell, str) for mark in OTHER_SEPARATORS
    )
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC if needs_quotes else csv.QUOTE_MINIMAL)
    writer.writerow([safe_cell(cell) for cell in cells])
    return text.getvalue()


def safe_cell(cell: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell
