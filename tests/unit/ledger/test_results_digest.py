from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest

from crrg.errors import DigestMismatch
from crrg.exports.parquet import REGIONS_SCHEMA, REPORTS_SCHEMA
from crrg.ledger.digest import NightDigest, results_digest
from crrg.ledger.tables import TABLES_AHEAD, read_each, read_table, read_tables, table_bytes, write_table
from crrg.storage import Storage, canonical_json


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


def test_rows_are_hashed_as_json_with_floats_rounded():
    """Digests of before hold: what a row is hashed as is written out here, column by column in order of names."""
    boxes = pa.array([[0.12349, 1.0, -0.0002, 7.5], [1.0, 2.0, 3.0, 4.00051]], pa.list_(pa.float32(), 4))
    table = pa.table(
        {
            "score": pa.array([None, 0.98761], pa.float32()),
            "box": boxes,
            "source_digest": pa.array([b"\1\2", b""], pa.binary()),
            "flags": pa.array([["a", "\u00fc"], []], pa.list_(pa.string())),
            "detected": [True, False],
            "label": pa.array([1, 0], pa.int8()),
            "superseded_by": ["later", None],
        }
    )
    written = [
        '[[1.0,2.0,3.0,4.001],false,[],0,0.988,"",null]',
        '[[0.123,1.0,0.0,7.5],true,["a","\u00fc"],1,null,"0102",null]',
    ]
    totals = [sum(int.from_bytes(sha256(row.encode()).digest()) for row in rows) % 2**256 for rows in (written, [])]
    parts = [f"2:{totals[0]:064x}", f"0:{0:064x}", f"0:{totals[1]:064x}"]
    expected = sha256(canonical_json(parts)).hexdigest()
    assert digest_of(table, []) == expected
    assert digest_of(pa.concat_tables([table, table]).slice(1, 2), []) == expected


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


def test_tables_come_in_order_and_no_more_of_them_are_held_than_are_read_ahead(tmp_path):
    storage = Storage(str(tmp_path))
    files = [write_table(storage, f"{number}.parquet", rows(float(number)), "reports") for number in range(12)]
    asked = []
    tables = read_each(storage, (asked.append(file) or file for file in files))
    assert next(tables).equals(read_table(storage, files[0]))
    assert len(asked) == TABLES_AHEAD
    assert [table.num_rows for table in tables] == [file.num_rows for file in files[1:]]
    storage.put(files[5].key, b"other bytes")
    with pytest.raises(DigestMismatch):
        list(read_each(storage, files))


def test_a_digest_of_no_night_says_so(tmp_path, caplog):
    results_digest(Storage(str(tmp_path)), REPORTS_SCHEMA, REGIONS_SCHEMA, "2026-11-20")
    assert "no night of 2026-11-20 was committed: this is the digest of nothing" in caplog.text
