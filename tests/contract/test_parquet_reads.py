"""Parquet is opened from bytes and open files in one place, so that no thread of Arrow's ever holds a Python object.

One that does may end a command whose work is done with SIGABRT (apache/arrow #34314).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("crrg", "tasks", "flows", "deployments")
OPENERS = {
    "read_table", "read_pandas", "read_metadata", "read_schema", "ParquetFile", "ParquetDataset", "read_parquet",
    "scan_parquet",
}  # fmt: skip
LIBRARIES = {"pq", "parquet", "pl", "polars", "pd", "pandas"}
ALLOWED = {
    "crrg/data/parquet.py": {"read_table", "ParquetFile"},
    "crrg/data/dataset/reader.py": {"read_metadata", "ParquetFile"},  # pieces of a file, by the footer at hand
}
PIECES = {"read_row_group", "read_row_groups", "iter_batches"}


def offences(text: str) -> Iterator[str]:
    """Yield how a module opens Parquet itself, and reads from an open file in threads."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "pyarrow.parquet":
            yield from (item.name for item in node.names if item.name in OPENERS)
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name, library = node.func.attr, ast.unparse(node.func.value).rpartition(".")[2]
        words = {item.arg: ast.unparse(item.value) for item in node.keywords}
        if name in OPENERS and library in LIBRARIES:
            yield name
        if (name in PIECES or (name == "read" and "columns" in words)) and words.get("use_threads") != "False":
            yield f"{name} with threads"


def test_parquet_is_opened_in_one_place_and_read_without_threads(checkout: Path) -> None:
    found, num_read = [], 0
    for path in (path for room in ROOMS for path in sorted((checkout / room).rglob("*.py"))):
        place = str(path.relative_to(checkout))
        num_read += 1
        found += [f"{place}: {what}" for what in offences(path.read_text()) if what not in ALLOWED.get(place, set())]
    assert num_read > 200
    assert found == [], "use crrg/data/parquet.py"


@pytest.mark.parametrize(
    "text",
    [
        "pq.read_table(io.BytesIO(data))",
        "pyarrow.parquet.ParquetFile(file)",
        "from pyarrow.parquet import read_table",
        "pl.read_parquet(data)",
        "file.read_row_group(0)",
        "file.iter_batches(batch_size=3)",
        "file.read(columns=['a'])",
    ],
)
def test_it_would_be_noticed(text: str) -> None:
    assert list(offences(text)) != []
