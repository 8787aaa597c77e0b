"""Make nights and trainings suffer (``make faults``): spoilt requests, kills, races, a store that dies, a full disk.

Each finished case is a line of ``cases.jsonl`` in the folder; run again with it, only what is missing runs. Ends with
0 where every case was well, 1 where one was not, 3 where time ran out before all were done. Run:
``python -m benchmarks.faults --folder DIR [--minutes 60]``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.faults.cases import Finding, LocalCases
from benchmarks.faults.platform_cases import PlatformCases
from benchmarks.faults.store_cases import StoreCases
from benchmarks.faults.training_cases import TrainingCases

NUM_FAULTS = 1000
ON_FOLDERS = {"killed": 100, "terminated": 20, "raced": 50, "asleep": 5, "disk_full": 5}
ON_A_STORE = {"restarted": 5, "expired": 5, "denied": 3, "skewed": 3, "overloaded": 2}
ON_A_PLATFORM = {"prefect_away": 4, "prefect_locked": 2, "mlflow_away": 4}
ON_TRAININGS = {"ingest_killed": 20, "stage_killed": 40}
CASES = {**ON_FOLDERS, **ON_A_STORE, **ON_A_PLATFORM, **ON_TRAININGS}
NEEDS_ROOT = "disk_full"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where finished cases and logs are kept")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--only", choices=("spoilt", *CASES), default=None)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    table = options.folder / "cases.jsonl"
    deadline_s = time.monotonic() + 60 * options.minutes
    wanted = [options.only] if options.only else ["spoilt", *CASES]
    if os.geteuid() != 0 and NEEDS_ROOT in wanted:
        print("a full disk needs root to make one; left out")
        wanted.remove(NEEDS_ROOT)
    for part in wanted:
        run_part(part, options.folder / "work", table, deadline_s)
    return show(table, wanted)


def run_part(part: str, folder: Path, table: Path, deadline_s: float) -> None:
    """Run what is missing of one kind until time is up."""
    if is_done(part, read(table)):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cases: Any = cases_of(part)(folder)
    run: Callable[[int], Finding] = getattr(cases, part)
    try:
        while not is_done(part, done := read(table)) and time.monotonic() < deadline_s:
            number = sum(case["part"] == part for case in done)
            started_s = time.monotonic()
            try:
                found = run(number)
            except (OSError, RuntimeError) as error:
                found = Finding([f"{type(error).__name__}: {error}"])
            line = {"part": part, "number": number, "seconds": round(time.monotonic() - started_s, 1), **vars(found)}
            with table.open("a") as file:
                file.write(json.dumps(line) + "\n")
            if found.problems:
                print(line, flush=True)
    finally:
        if isinstance(cases, StoreCases):
            cases.close()


def cases_of(part: str) -> type[Any]:
    """Return the class that makes cases of a kind."""
    if part in ON_FOLDERS:
        return LocalCases
    if part in ON_TRAININGS:
        return TrainingCases
    return PlatformCases if part in ON_A_PLATFORM else StoreCases


def read(table: Path) -> list[dict[str, Any]]:
    """Return the finished cases."""
    return [json.loads(line) for line in table.read_text().splitlines()] if table.exists() else []


def is_done(part: str, done: list[dict[str, Any]]) -> bool:
    """Whether enough cases of a kind are finished in which something happened; of spoilt requests, enough faults."""
    faults = [sum(case["injected"].values()) for case in done if case["part"] == part]
    if part == "spoilt":
        return sum(faults) >= NUM_FAULTS
    return sum(number > 0 for number in faults) >= CASES[part]


def show(table: Path, wanted: list[str]) -> int:
    """Print what was done; return the exit status."""
    done = read(table)
    print("| kind | cases | faults | nights needed | shards done again | processes ended with | not well |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for part in wanted:
        mine = [case for case in done if case["part"] == part]
        faults = sum((Counter(case["injected"]) for case in mine), Counter[str]())
        num_bad = sum(bool(case["problems"]) for case in mine)
        codes = sum((Counter(case.get("codes", {})) for case in mine), Counter[str]())
        kinds, ended = (
            ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) for counts in (faults, codes)
        )
        nights, redone = (sum(case.get(name, 0) for case in mine) for name in ("nights", "redone"))
        print(f"| {part} | {len(mine)} | {kinds} | {nights} | {redone} | {ended} | {num_bad} |")
    num_done = sum(is_done(part, done) for part in wanted)
    num_cases = sum(case["part"] in wanted for case in done)
    print(f"\n{num_done} of {len(wanted)} kinds done, {num_cases} cases")
    if any(case["problems"] for case in done if case["part"] in wanted):
        return 1
    return 0 if num_done == len(wanted) else 3


if __name__ == "__main__":
    sys.exit(main())
