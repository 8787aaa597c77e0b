"""One number over what was committed, to compare two runs of the same night.

Of a study that was drafted again only the newest draft counts; asked for one night, what that night knew.

It covers ids, outcomes, reasons, sentences, labels, the bundle, and floats rounded to 3 decimals. It leaves out paths,
run ids and times, so that a night gives the same digest on another machine, in another store, or after a crash. Inputs
are told apart by the digest of their bytes; ids are pseudonyms, hence two HMAC keys give two digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from crrg.ledger.ledger import LEDGER_SCHEMA, LedgerRow
from crrg.ledger.manifest import read_manifests
from crrg.ledger.tables import TableFile, read_tables
from crrg.storage import Storage, canonical_json

DECIMALS = 3


def results_digest(storage: Storage, reports: pa.Schema, regions: pa.Schema, date: str = "") -> str:
    """Return the digest over the committed results of a night, or of all nights.

    Args:
        storage: The root.
        reports: Schema of the report rows.
        regions: Schema of the region rows.
        date: The night; empty takes all.
    """
    manifests = read_manifests(storage, date)
    replaced = {(each.instance_id, each.run_id) for manifest in manifests for each in manifest.superseded}
    tables = {"reports": reports.empty_table(), "regions": regions.empty_table()}
    ledger: list[Mapping[str, Any]] = []
    for manifest in manifests:
        gone = pa.array([name for name, run_id in replaced if run_id == manifest.run_id], pa.string())
        for kind, rows in tables.items():
            held = read_tables(storage, manifest.files, kind, rows.schema)
            current = held.filter(pc.invert(pc.is_in(held["instance_id"], value_set=gone)))
            tables[kind] = pa.concat_tables([rows, current])
        ledger += read_tables(storage, manifest.files, "ledger", LEDGER_SCHEMA).to_pylist()
    return digest_of(tables["reports"], tables["regions"], ledger)


def files_digest(
    storage: Storage,
    files: Sequence[TableFile],
    ledger: Iterable[LedgerRow],
    reports: pa.Schema,
    regions: pa.Schema,
) -> str:
    """Return the digest that a run will have once these files are committed."""
    rows = [{name: getattr(row, name) for name in LEDGER_SCHEMA.names} for row in ledger]
    report_rows = read_tables(storage, files, "reports", reports)
    return digest_of(report_rows, read_tables(storage, files, "regions", regions), rows)


def digest_of(reports: pa.Table, regions: pa.Table, ledger: Iterable[Mapping[str, Any]]) -> str:
    """Return the hex sha256 over rows in an order of their own; no rows at all give the digest of three empty lists."""
    outcomes = sorted(
        [row["source_digest"].hex(), row["instance_id"], str(row["outcome"]), row["reason"], row["bundle_id"]]
        for row in ledger
    )
    content = [_sorted_rows(reports), _sorted_rows(regions), outcomes]
    return hashlib.sha256(canonical_json(content)).hexdigest()


def _sorted_rows(table: pa.Table) -> list[str]:
    names = sorted(table.schema.names)
    return sorted(canonical_json([_plain(row[name]) for name in names]).decode() for row in table.to_pylist())


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it, floats rounded."""
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
