"""The tables of ``make bench-generation``: ratios over films that both sides did, floors of the same films, targets."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.generation.__main__ import ALONE, NUM_REPEATS, pieces
from benchmarks.generation.memory import parts
from benchmarks.generation.passes import DETECTION_GFLOP, TOKEN_GFLOP, Kind, kinds_of, ratio, seconds_by_film
from benchmarks.generation.tables import markdown
from benchmarks.generation.targets import target_table

WORDS = {0: 9, 1: 9, 2: 99}


def row(films: range, seconds: float, deduplication: float = 0.0) -> dict[str, Any]:
    stages = {"detection": seconds / 2, "selection": 0.0, "decoding": seconds / 2, "deduplication": deduplication}
    reports = [[[" ".join(["w"] * WORDS[film]), -0.1, 1.0]] for film in films]
    kept = [[sentence[0] for sentence in report] for report in reports]
    times = {"cpu_s": stages, "wall_s": stages}
    return {**times, "num_films": len(films), "reports": reports, "kept": kept}


def work(films: range) -> float:
    return sum(DETECTION_GFLOP + TOKEN_GFLOP * (1 + 4 * WORDS[film]) for film in films)


ROWS = {
    # one by one: the first repeat takes film 0, the second film 1; the third film is nowhere
    "published/batch1/equal/films0+1/0": row(range(1), 10.0),
    "published/batch1/equal/films1+1/1": row(range(1, 2), 14.0),
    "ours/batch8/equal/films0+3/0": row(range(3), work(range(3)) / 100, 3.0),
    "ours/batch8/equal/films0+3/1": row(range(3), work(range(3)) / 100, 3.0),
    "floor": {"gemm_640": 90.0, "gemm_2048": 100.0, "copy_gb_s": 1.0, "read_gb_s": 2.0},
}
ALONE_EQUAL, OURS = Kind("published", 1, "equal"), Kind("ours", 8, "equal")


def test_repeats_one_by_one_cover_the_films_of_a_batch() -> None:
    assert [film for first, count in ALONE for film in range(first, first + count)] == list(range(8))
    assert len(ALONE) == NUM_REPEATS
    asked = {(piece.side, piece.batch, piece.lengths) for piece in pieces()}
    assert {("ours", 32, "equal"), ("fast", 32, "equal"), ("published", 1, "equal"), ("ours", 32, "realistic")} <= asked
    assert len({piece.name for piece in pieces()}) == len(pieces())


def test_films_share_the_seconds_of_their_pass_by_their_work() -> None:
    own = seconds_by_film(OURS, kinds_of(ROWS)[OURS], stages=("detection", "decoding"))
    assert own[0] == own[1] == pytest.approx(work(range(1)) / 100)
    assert own[2] == pytest.approx(work(range(2, 3)) / 100)
    assert sum(own.values()) == pytest.approx(work(range(3)) / 100)


def test_a_ratio_is_of_films_that_both_did() -> None:
    kinds = kinds_of(ROWS)
    found, number = ratio(kinds, ALONE_EQUAL, OURS, ("detection", "decoding"))
    # the long third film, which nobody did one by one, is in neither sum
    assert (found, number) == (pytest.approx(24 / (work(range(2)) / 100)), 2)
    assert ratio(kinds, ALONE_EQUAL, Kind("fast", 8, "equal")) is None
    only = {name: each for name, each in ROWS.items() if "films0" in name and "published" in name}
    assert ratio(kinds_of({**only, "ours/batch8/equal/films1+2/0": row(range(1, 3), 1.0)}), ALONE_EQUAL, OURS) is None


def test_the_floor_is_of_the_films_that_were_measured() -> None:
    line = markdown(ROWS).split("times the floor |")[1].split("\n")[2]
    mean = work(range(3)) / 3
    measured = mean / 100 + 1.0
    assert line == f"| ours 8 equal | {mean:.0f} | {mean / 100:.2f} | {measured:.2f} | {measured * 100 / mean:.2f} |"


def memory(working_gib: float) -> dict[str, Any]:
    stages = {"detection": working_gib / 2, "selection": 0.0, "decoding": working_gib, "deduplication": 0.1}
    return {"num_films": 8, "resident_gib": 2.5, "stage_gib": stages, "working_gib": working_gib, "kept_gib": 0.2}


def test_memory_is_of_processes_that_made_one_pass() -> None:
    sizes = {"ours/batch8": 1.3, "published/batch8": 2.0, "ours/batch1": 1.0, "published/batch1": 2.0}
    found = {f"memory/{side}/equal": memory(gib) for side, gib in sizes.items()}
    table = markdown({**found, "memory/ours/batch32/equal": memory(4.0)})
    assert "| equal | published | 8 | 8 | 2.50 | 1.00 | 2.00 | 0.10 | 2.00 | 0.20 |" in table
    lines = [line for line in table.splitlines() if line.startswith("| working memory")]
    assert lines == [
        "| working memory, batch 1, equal lengths | at most 60 % | 50% | 8 | met |",
        "| working memory, batch 8, equal lengths | at most 60 % | 65% | 8 | **missed** |",
    ]
    assert {("published", 8, "realistic"), ("ours", 32, "equal")} <= {(p.side, p.batch, p.lengths) for p in parts()}


STAGES = """
import json, torch
from benchmarks.generation.memory import PeakStages, status_gib
stages = PeakStages()
with stages("detection"):
    torch.ones(2**25).sum()
before = status_gib("VmRSS")
with stages("decoding"):
    torch.ones(2**24).sum()
with stages("deduplication"):
    pass
print(json.dumps({name: peak - before for name, peak in stages.peak_gib.items()}))
"""


def test_freed_heap_does_not_hide_what_a_stage_takes() -> None:
    done = subprocess.run([sys.executable, "-c", STAGES], check=True, stdout=subprocess.PIPE)
    taken = json.loads(done.stdout)
    assert taken["detection"] > 0.1
    assert taken["decoding"] == pytest.approx(2**26 / 2**30, abs=0.02)
    assert taken["deduplication"] < 0.02


def test_every_target_says_whether_it_is_met() -> None:
    few = {
        f"{side}/batch1/few-proposals/0": {"cpu_s": {"detection": seconds}, "num_films": 1}
        for side, seconds in (("published", 1.1), ("ours", 1.0))
    }
    table = target_table({**ROWS, **few, "published/batch8/equal/films0+3/0": row(range(3), 100.0, 45.1)})
    assert "| detection at 150 proposals, batch 1 | 1.2x | 1.10x | 1 | **missed** |" in table
    assert "| de-duplication, batch 8, equal lengths | 15.0x | 15.03x | 3 | met |" in table
    wanted = 24 / (work(range(2)) / 100)
    end = f"| 2.0x | {wanted:.2f}x | 2 | {'met' if wanted >= 2 else '**missed**'} |"
    assert f"| end to end without de-duplication, equal lengths, batch 8, against one by one, exact {end}" in table
    assert target_table({}) == ""
