"""A measurement of a root makes the root first, or goes on with it, and leaves alone what is not the demo's."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

CHAMPION = "models/aliases/champion.json"


def announced(checkout: Path, root: str, target: str, *variables: str) -> list[str]:
    """Return what ``make -n`` says that it would run of ``crrg demo`` and the benchmarks."""
    asked = ["make", "-n", "--no-print-directory", target, f"ROOT={root}", *variables]
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "PRESET", "FOLDER")}
    said = subprocess.run(asked, cwd=checkout, env=env, capture_output=True, text=True, check=True).stdout
    words = ("crrg demo", "-m benchmarks.")
    return [line.strip() for line in said.splitlines() if any(word in line for word in words)]


def put(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}")


@pytest.mark.parametrize("target", ["soak", "bench-nightly", "bench-watch", "bench-evidence"])
def test_where_there_is_no_root_the_demo_comes_first(checkout: Path, tmp_path: Path, target: str) -> None:
    root = tmp_path / "root"
    assert announced(checkout, str(root), target)[0] == f".venv/bin/crrg demo --root {root}"
    put(root / CHAMPION)
    assert not [line for line in announced(checkout, str(root), target) if "crrg demo" in line]


def test_a_demo_that_was_stopped_goes_on_and_any_other_root_is_left_alone(checkout: Path, tmp_path: Path) -> None:
    put(tmp_path / "begun/demo.key")
    put(tmp_path / "production/results/date=2026-11-20/_manifest-1.json")
    demos = {
        name: "crrg demo" in announced(checkout, str(tmp_path / name), "soak")[0] for name in ("begun", "production")
    }
    assert demos == {"begun": True, "production": False}
    assert "crrg demo" not in announced(checkout, "s3://bucket/prefix", "soak")[0]


def test_quality_is_measured_at_the_preset_that_was_asked_for(checkout: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for target in ("quality-generation", "quality-classification"):
        assert f"crrg demo --root {root}-small --preset small" in announced(checkout, str(root), target)[0]
    assert announced(checkout, str(root), "quality-generation", "PRESET=tiny")[0].endswith(f"crrg demo --root {root}")


def test_what_a_measurement_keeps_lies_beside_no_source(checkout: Path) -> None:
    text = (checkout / "Makefile").read_text()
    kept = re.findall(r"--(?:folder|json) (?:\$\(or \$\(FOLDER\),)?([^\s)]+)", text)
    assert len(kept) == 5
    assert [path for path in kept if not path.startswith(".make/")] == []
    assert re.search(r"benchmarks\.generation --folder", text)


def test_nothing_is_ignored_twice(checkout: Path) -> None:
    lines = (checkout / ".gitignore").read_text().splitlines()
    assert len(lines) == len({*lines})
