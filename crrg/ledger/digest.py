"""One number over what was committed, to compare two runs of the same night.

Of a study that was drafted again only the newest draft counts; asked for one night, what that night knew.

It covers ids, outcomes, reasons, sentences, labels, the bundle, and floats rounded to 3 decimals. It leaves out paths,
run ids, times, and what a later night said of a draft (``superseded_by``), so that a night gives the same digest on
another machine, in another store, or after a crash. Inputs are told apart by the digest of their bytes; ids are
pseudonyms, hence two HMAC keys give two digests. Rows are read file by file and forgotten, so that a night of any size
is digested in the same memory.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from crrg.ledger.ledger import LEDGER_SCHEMA, LedgerRow
from crrg.ledger.manifest import read_manifests
from crrg.ledger.tables import TableFile, read_each
from crrg.storage import Storage, canonical_json

logger = logging.getLogger(__name__)

DECIMALS = 3
SAID_LATER = "superseded_by"
"""Counts as null: the run that committed a draft could not know what would replace it."""
ROWS_AT_ONCE = 1024


class RowsDigest:
    """A digest over rows that does not depend on their order and keeps none of them.

    Row digests are added as numbers modulo 2**256: equal rows that come twice count twice.
    """

    def __init__(self) -> None:
        """Begin without rows."""
        self._num_rows = 0
        self._total = 0

    def add(self, row: Sequence[Any]) -> None:
        """Take one row of plain values."""
        self._add_text(canonical_json(row))

    def add_table(self, table: pa.Table) -> None:
        """Take all rows of a table, whatever the order of its columns."""
        for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
            columns = [_column_texts(name, batch) for name in sorted(table.schema.names)]
            for row in zip(*columns, strict=True):
                self._add_text(f"[{','.join(row)}]".encode())

    def _add_text(self, row: bytes) -> None:
        self._num_rows += 1
        self._total = (self._total + int.from_bytes(hashlib.sha256(row).digest())) % 2**256

    @property
    def value(self) -> str:
        """The number of rows and the sum of their digests."""
        return f"{self._num_rows}:{self._total:064x}"


class NightDigest:
    """The digest of committed results, fed piece by piece."""

    def __init__(self) -> None:
        """Begin with nothing, which has a digest too."""
        self._rows = {"reports": RowsDigest(), "regions": RowsDigest()}
        self._outcomes = RowsDigest()

    def add_table(self, kind: str, table: pa.Table) -> None:
        """Take rows of kind ``reports`` or ``regions``."""
        self._rows[kind].add_table(table)

    def add_outcomes(self, ledger: Iterable[Mapping[str, Any]]) -> None:
        """Take rows of the ledger; inputs are told apart by the digest of their bytes."""
        for row in ledger:
            self._outcomes.add(
                [row["source_digest"].hex(), row["instance_id"], str(row["outcome"]), row["reason"], row["bundle_id"]]
            )

    def hexdigest(self) -> str:
        """Return the hex sha256 over everything taken so far."""
        parts = [self._rows["reports"].value, self._rows["regions"].value, self._outcomes.value]
        return hashlib.sha256(canonical_json(parts)).hexdigest()


def results_digest(storage: Storage, reports: pa.Schema, regions: pa.Schema, date: str = "") -> str:
    """Return the digest over the committed results of a night, or of all nights.

    Args:
        storage: The root.
        reports: Schema of the report rows.
        regions: Schema of the region rows.
        date: The night; empty takes all.
    """
    manifests = read_manifests(storage, date)
    if not manifests:
        logger.warning("no night%s was committed: this is the digest of nothing", f" of {date}" if date else "")
    replaced = {(each.instance_id, each.run_id) for manifest in manifests for each in manifest.superseded}
    digest, schemas = NightDigest(), {"reports": reports, "regions": regions}
    for manifest in manifests:
        gone = pa.array([name for name, run_id in replaced if run_id == manifest.run_id], pa.string())
        files = [file for file in manifest.files if file.kind in (*schemas, "ledger")]
        for file, table in zip(files, read_each(storage, files), strict=True):
            if file.kind == "ledger":
                digest.add_outcomes(table.to_pylist())
            else:
                held = table.cast(schemas[file.kind])
                digest.add_table(file.kind, held.filter(pc.invert(pc.is_in(held["instance_id"], value_set=gone))))
    return digest.hexdigest()


def files_digest(
    storage: Storage,
    files: Sequence[TableFile],
    ledger: Iterable[LedgerRow],
    reports: pa.Schema,
    regions: pa.Schema,
) -> str:
    """Return the digest that a run will have once these files are committed."""
    digest, schemas = NightDigest(), {"reports": reports, "regions": regions}
    tables = [file for file in files if file.kind in schemas]
    for file, table in zip(tables, read_each(storage, tables), strict=True):
        digest.add_table(file.kind, table.cast(schemas[file.kind]))
    digest.add_outcomes({name: getattr(row, name) for name in LEDGER_SCHEMA.names} for row in ledger)
    return digest.hexdigest()


def _column_texts(name: str, batch: pa.RecordBatch) -> Sequence[str]:
    """Return a column's values as ``canonical_json`` writes them, floats rounded; a row is encoded in parts."""
    column = batch.column(name)
    if name == SAID_LATER:
        return ["null"] * len(column)
    kind = column.type
    if pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type) and not column.null_count:
        numbers, size = _number_texts(column.flatten().to_pylist()), kind.list_size
        return [f"[{','.join(numbers[start : start + size])}]" for start in range(0, len(numbers), size)]
    values = column.to_pylist()
    if pa.types.is_floating(kind):
        return _number_texts(values)
    if pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        texts = {value: canonical_json(value).decode() for value in set(values)}
        return [texts[value] for value in values]
    return [canonical_json(_plain(value)).decode() for value in values]


def _number_texts(numbers: Sequence[float | None]) -> list[str]:
    """Return numbers as JSON has them; what it has no word for is left to its encoder."""
    return [
        repr(round(number, DECIMALS) + 0.0)
        if number is not None and math.isfinite(number)
        else canonical_json(number).decode()
        for number in numbers
    ]


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it, floats rounded."""
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
