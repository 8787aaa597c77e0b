from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from crrg.errors import DigestMismatch
from crrg.ledger.digest import NightDigest
from crrg.ledger.tables import read_table, read_tables, table_bytes, write_table
from crrg.storage import Storage


def rows(*values: float, name: str = "a") -> pa.Table:
    return pa.table({"instance_id": [name] * len(values), "score": pa.array(values, pa.float32())})


def digest_of(reports: pa.Table, outcomes: list[dict]) -> str:
    digest = NightDigest()
    digest.add_table("reports", reports)
    digest.add_outcomes(outcomes)
    return digest.hexdigest()


def outcome(reason: str = "", **changes: object) -> dict:
    row = {"source_digest": b"\1", "instance_id": "a", "outcome": "accepted", "reason": reason, "bundle_id": "b"}
    return {**row, "run_id": "one", "etag": "v1", **changes}


def test_order_rounding_and_run_ids_do_not_count():
    base = digest_of(rows(0.1, 0.2), [outcome(), outcome("PARSE.X")])
    assert digest_of(rows(0.2, 0.1), [outcome("PARSE.X"), outcome()]) == base
    assert digest_of(rows(0.10004, 0.2), [outcome(), outcome("PARSE.X", run_id="two", etag="v2")]) == base


@pytest.mark.parametrize(
    ("reports", "outcomes"),
    [
        (rows(0.102, 0.2), [outcome()]),
        (rows(0.1), [outcome()]),
        (rows(0.1, 0.2, name="b"), [outcome()]),
        (rows(0.1, 0.2), [outcome("PARSE.X")]),
        (rows(0.1, 0.2), [outcome(bundle_id="c")]),
        (rows(0.1, 0.2), []),
    ],
)
def test_every_difference_counts(reports, outcomes):
    assert digest_of(reports, outcomes) != digest_of(rows(0.1, 0.2), [outcome()])


def test_minus_zero_is_zero():
    assert digest_of(rows(-0.0001), []) == digest_of(rows(0.0), [])


def test_equal_tables_are_equal_bytes_and_damage_is_noticed(tmp_path: Path):
    assert table_bytes(rows(0.1)) == table_bytes(rows(0.1))
    storage = Storage(str(tmp_path))
    file = write_table(storage, "t.parquet", rows(0.1, 0.2), "reports")
    assert (file.num_rows, read_table(storage, file).num_rows) == (2, 2)
    assert read_tables(storage, [file], "regions", rows(0.1).schema).num_rows == 0
    with pytest.raises(DigestMismatch, match="rows"):
        read_table(storage, file.model_copy(update={"num_rows": 3}))
    storage.put("t.parquet", table_bytes(rows(0.1, 0.3)))
    with pytest.raises(DigestMismatch, match="sha256"):
        read_table(storage, file)
