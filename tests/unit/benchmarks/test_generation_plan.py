"""The plan of ``make bench-generation``: three repeats of the same films, an hour, and what a stopped call lacks."""

from __future__ import annotations

import ast
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.generation import __main__ as command
from benchmarks.generation import memory, models, plan
from benchmarks.generation import pieces as running
from benchmarks.generation.passes import Kind, kinds_of, ratio
from benchmarks.generation.pieces import Piece
from benchmarks.generation.plan import QUIET_S, all_pieces, estimate, pieces
from benchmarks.resumable import Table

WHOLE_S = 60 * 60


def measured(piece: Any, pace: float = 1.0) -> dict[str, Any]:
    seconds = piece.films[1] * QUIET_S[Kind(piece.side, piece.batch, piece.lengths)] * pace
    return {"wall_s": {"decoding": seconds}, "cpu_s": {"decoding": seconds}, "num_films": piece.films[1]}


def test_all_that_is_compared_is_timed_in_three_repeats_of_the_same_films() -> None:
    by_kind: dict[Kind, list[tuple[int, int]]] = {}
    for piece in all_pieces():
        by_kind.setdefault(Kind(piece.side, piece.batch, piece.lengths), []).append(piece.films)
    assert all(len(set(films)) == 1 for films in by_kind.values()), "a film that is timed is timed in each repeat"
    asked = [("published", 1), ("published", 8), ("ours", 1), ("ours", 8), ("fast", 1)]
    asked = [Kind(side, batch, lengths) for side, batch in asked for lengths in ("equal", "realistic")]
    asked += [Kind("ours", 32, "realistic"), Kind("fast", 8, "realistic")]
    assert {kind: len(by_kind[kind]) for kind in asked} == dict.fromkeys(asked, 3)
    assert len(by_kind[Kind("ours", 32, "equal")]) == len(by_kind[Kind("fast", 32, "realistic")]) == 1
    assert len({piece.name for piece in all_pieces()}) == len(all_pieces())


def test_sides_and_batches_take_turns_within_a_repeat() -> None:
    for repeat in range(plan.NUM_REPEATS):
        kinds = [(piece.batch, piece.side) for piece in pieces(repeat)]
        assert {batch for batch, _ in kinds} == {1, 8, 32}
        assert {piece.repeat for piece in pieces(repeat)} == {repeat}
    assert len({pieces(repeat)[0].side for repeat in range(3)}) == 3, "no side always comes first"


def test_the_plan_fits_into_an_hour_and_says_so() -> None:
    found = estimate({})
    assert found.left_s == pytest.approx(found.whole_s)
    assert found.whole_s < 0.9 * WHOLE_S
    assert f"about {round(found.whole_s / 60)} minutes" in " ".join((plan.__doc__ or "").split())
    assert f"about {round(found.whole_s / 60)} minutes" in " ".join((command.__doc__ or "").split())


def test_what_is_left_is_told_from_the_rows_that_there_are() -> None:
    first = {piece.name: measured(piece, pace=2.0) for piece in pieces(0)}
    found, quiet = estimate(first), estimate({})
    assert found.whole_s == pytest.approx(2 * quiet.whole_s, rel=0.05), "reading weights is taken to be as fast"
    assert found.left_s < found.whole_s - 2 * sum(measured(piece)["wall_s"]["decoding"] for piece in pieces(0)) + 1
    done = {
        **{piece.name: measured(piece) for piece in all_pieces()},
        **{memory.name_of(p): {} for p in memory.parts()},
    }
    assert estimate(done).left_s == 0
    assert str(estimate(done)) == f"about 0 of {quiet.whole_s / 60:.0f} minutes are left"


def test_memory_is_of_both_sides_of_what_is_compared() -> None:
    found = [(part.side, part.batch, part.lengths) for part in memory.parts()]
    for batch, lengths in ((1, "equal"), (1, "realistic"), (8, "realistic")):
        assert {(side, batch, lengths) for side in ("published", "ours", "fast")} <= set(found)
    assert [part.films for part in memory.parts()] == [(0, batch) for _, batch, _ in found]


def test_two_processes_measure_memory_at_once_and_a_call_that_is_over_starts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=10)

    def measure(part: Any, _folder: Path) -> dict[str, Any]:
        if part.batch == 1:  # six parts, two by two
            together.wait()
        return {"process_s": 1.0, "side": part.side}

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(command, "num_at_once", lambda: 2)
    monkeypatch.setattr(command, "parts", lambda: [part for part in memory.parts() if part.batch == 1])
    table = Table(tmp_path / "pieces.json")
    command.fill_memory(time.monotonic() - 1, table, tmp_path)
    assert table.rows == {}
    command.fill_memory(time.monotonic() + 60, table, tmp_path)
    assert {name: row["side"] for name, row in Table(tmp_path / "pieces.json").rows.items()} == {
        memory.name_of(part): part.side for part in memory.parts() if part.batch == 1
    }


def test_a_ratio_needs_the_same_film_on_both_sides() -> None:
    row = {"reports": [[["w1", -0.1, 1.0]]] * 3, "kept": [["w1"]] * 3, "num_films": 3}
    times = {"cpu_s": {"detection": 6.0}, "wall_s": {"detection": 6.0}, "deduplication": {"cpu_s": [0.0] * 3}}
    rows = {f"{side}/batch1/realistic/films0+3/{repeat}": {**row, **times} for side in ("published", "ours")
            for repeat in range(3)}  # fmt: skip
    kinds = kinds_of(rows)
    assert ratio(kinds, Kind("published", 1, "realistic"), Kind("ours", 1, "realistic"), ("detection",)) == (1.0, 3)


def test_each_module_of_the_benchmark_is_known_to_measure_or_to_show() -> None:
    folder = Path(command.__file__).parent
    shows = {"__init__", "__main__", "floors", "passes", "plan", "tables", "targets"}
    assert {file.stem for file in folder.glob("*.py")} == {*command.MEASURING, *shows}
    imported = {
        node.module
        for name in command.MEASURING
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("benchmarks.generation.")
    }
    assert {module.rsplit(".", 1)[1] for module in imported} <= {*command.MEASURING}


def test_weights_of_other_code_are_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def save(_model: object, file: Path) -> None:
        drawn.append(file)
        file.write_bytes(b"weights")

    for name in ("full_model", "_make_lively", "_favour_small_anchors", "_select_a_third", "_films"):
        monkeypatch.setattr(models, name, lambda *_: None)
    monkeypatch.setattr(models, "save_published", save)
    models.write_weights(tmp_path)
    models.write_weights(tmp_path)
    assert len(drawn) == 1
    monkeypatch.setattr(models, "code_digest", lambda _: "other")
    models.write_weights(tmp_path)
    assert len(drawn) == 2


def test_de_duplication_is_timed_film_by_film(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {"cpu": 0.0, "wall": 0.0}

    def tell(_piece: object, _inputs: object, sentences: list[str]) -> list[str]:
        now["cpu"] += len(sentences)
        now["wall"] += 2 * len(sentences)
        return sentences

    clocks = SimpleNamespace(process_time=lambda: now["cpu"], perf_counter=lambda: now["wall"])
    monkeypatch.setattr(running, "time", clocks)
    monkeypatch.setattr(running, "_deduplicated", tell)
    monkeypatch.setattr(running, "_ours", lambda *_: [[["w1", -0.1, 1.0]], [["w1", -0.1, 1.0]] * 5])
    piece = Piece("ours", 8, "equal", (0, 2), 0)
    row = running.run(piece, object(), SimpleNamespace())  # type: ignore[arg-type]
    assert row["deduplication"] == {"cpu_s": [1.0, 5.0], "wall_s": [2.0, 10.0]}
    assert (row["cpu_s"]["deduplication"], row["wall_s"]["deduplication"]) == (6.0, 12.0)


def test_a_call_says_how_long_it_takes_and_reports_what_it_is_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(command, "write_weights", lambda _: None)
    monkeypatch.setattr(command, "own_identity", lambda: {"processor": "P 1", "libraries": "torch 2", "code": "ab"})
    monkeypatch.setattr(command, "measure", lambda *_: pytest.fail("the time is up"))
    monkeypatch.setattr(command.torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["bench", "--folder", str(tmp_path), "--minutes", "0"])
    with caplog.at_level("INFO"):
        command.main()
    assert caplog.messages[0].startswith("about 54 of 54 minutes are left")
    assert (tmp_path / "report.md").read_text() == "P 1; torch 2; code ab; one thread.\n"


def test_what_measures_decides_whose_rows_they_are() -> None:
    assert set(command.own_identity()) == {"processor", "libraries", "code"}
