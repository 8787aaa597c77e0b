"""Rows of one machine and program are never gone on with on another: what their identity is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.resumable import IDENTITY, table_of
from benchmarks.resumable import identity as identities
from benchmarks.resumable.identity import code_digest, identity, of_crrg, processor

CODE = '''"""What it is."""


def double(number):
    """Say it twice."""
    return 2 * number
'''


def digest_of(file: Path, text: str) -> str:
    file.write_text(text)
    return code_digest([file])


def test_the_digest_is_of_what_code_does(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    first = digest_of(file, CODE)
    said_otherwise = CODE.replace("Say it twice.", "Return twice as much.").replace("return", "# twice\n    return")
    assert digest_of(file, said_otherwise) == first
    assert digest_of(file, CODE.replace("2 *", "3 *")) != first
    assert code_digest([tmp_path]) != first, "a folder counts with all its modules"
    with pytest.raises(FileNotFoundError):
        code_digest([tmp_path / "gone.py"])


def test_rooms_of_the_library_are_found() -> None:
    assert all(path.exists() for path in of_crrg("inference", "models", "training/loop.py"))


def test_the_processor_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "PROCESSOR", tmp_path / "cpuinfo")
    assert processor() == "unknown"
    first = "processor : 0\ncpu family : 6\nmodel : 207\nmodel name\t: Fast 9\nflags : avx\n"
    (tmp_path / "cpuinfo").write_text(first + "model name : Slow\nmodel : 1\n")
    assert processor() == "Fast 9, cpu family 6, model 207"


def test_rows_of_another_machine_are_kept_and_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def called() -> dict[str, float]:
        table = table_of(tmp_path, identity([]))
        table.fill("pass", lambda: {"s": float(len(list(tmp_path.glob("pieces-*.json"))))})
        return {"s": table.rows["pass"]["s"], "rows": len(table.rows)}

    first = called()
    assert called() == first
    monkeypatch.setattr(identities, "processor", lambda: "another")
    assert called() == {"s": 2.0, "rows": 2}
    assert table_of(tmp_path, identity([])).rows[IDENTITY]["processor"] == "another"
    monkeypatch.setattr(identities, "libraries", lambda: "torch 9")
    assert called()["s"] == 3.0
    monkeypatch.undo()
    assert called() == first, "on the first machine what it measured is there"
