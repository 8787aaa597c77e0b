"""What lies under a name stays there; other bytes lie beside it, under a name that everybody finds again."""

from __future__ import annotations

import pytest

from crrg.ledger.beside import put_beside, usual_name
from crrg.storage import Storage


def test_nothing_is_written_over(tmp_path):
    root = Storage(str(tmp_path))
    assert put_beside(root, "run=1/index.json", b"first") == "run=1/index.json"
    beside = put_beside(root, "run=1/index.json", b"second")
    assert beside != "run=1/index.json"
    # again, as after a lost answer or by another holder with the same bytes
    assert [put_beside(root, "run=1/index.json", data) for data in (b"first", b"second")] == [
        "run=1/index.json", beside,
    ]  # fmt: skip
    assert (root.get("run=1/index.json"), root.get(beside)) == (b"first", b"second")
    assert usual_name(beside) == usual_name("run=1/index.json") == "run=1/index.json"


@pytest.mark.parametrize("key", ["a/report.json", "a.b/film.png", "reports-00000-settled.parquet", "1.2.840/x", "x"])
def test_a_usual_name_is_its_own(key):
    assert usual_name(key) == key
