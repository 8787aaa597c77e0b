"""A case of `make faults` is not well where a process ended as it must not, or too much was done again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import __main__ as faults
from benchmarks.faults import nights
from benchmarks.faults.cases import Ending, judged
from crrg.errors import StorageError
from crrg.operations.night import feed as night_feed
from crrg.operations.night.nightly import plan_night, release_night
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, fill_inbox, night_config


class AllIsThere:
    """An undisturbed night that every root equals."""

    def problems(self, _: Storage) -> list[str]:
        return []


def problems_of(tmp_path: Path, *endings: Ending, interrupted: int | None = 1) -> list[str]:
    root, log = Storage(str(tmp_path)), tmp_path / "night.log"
    found = judged(AllIsThere(), root, log, endings, {"SIGKILL": 1}, interrupted=interrupted)  # type: ignore[arg-type]
    return found.problems


@pytest.mark.parametrize("code", [1, nights.HELD, nights.UNFORESEEN])
def test_a_night_without_a_fault_ends_with_0_or_its_case_is_not_well(tmp_path: Path, code: int) -> None:
    assert problems_of(tmp_path, Ending([0])) == []
    assert problems_of(tmp_path, Ending([code, 0])) == [f"nights without a fault ended with {{{code}: 1}}"]


def test_a_night_with_faults_may_end_with_1_and_not_with_a_traceback(tmp_path: Path) -> None:
    may = frozenset({0, 1})
    assert problems_of(tmp_path, Ending([1, 0], may)) == []
    assert problems_of(tmp_path, Ending([nights.UNFORESEEN, 0], may, "that night")) == ["that night ended with {70: 1}"]


def test_an_interruption_may_cost_one_shard(tmp_path: Path) -> None:
    begun = tmp_path / "night.log.drafted"
    begun.write_text("a\nb\nb\nc\n")
    assert problems_of(tmp_path) == []
    assert problems_of(tmp_path, interrupted=0) == ["1 shards were done again after 0 interruptions"]
    begun.write_text("a\nb\nb\nc\nc\n")
    assert problems_of(tmp_path) == ["2 shards were done again after 1 interruptions"]
    assert problems_of(tmp_path, interrupted=None) == [], "of a holder that sleeps meanwhile"


def code_of(work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how a process ends that does this, without one."""
    monkeypatch.setenv(nights.DRAFTED, "")
    monkeypatch.setattr(nights.os, "dup2", lambda *_: None)
    inbox, root, log = str(tmp_path / "inbox"), str(tmp_path / "root"), str(tmp_path / "night.log")
    try:
        nights._run(work, inbox, root, 0.0, 0, log, {})
    except SystemExit as end:
        return int(str(end.code))
    return 0


def test_how_a_night_ended_is_told_by_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("denied")

    def fail(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    assert code_of(refuse, tmp_path, monkeypatch) == 1
    assert code_of(fail, tmp_path, monkeypatch) == nights.UNFORESEEN
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    fill_inbox(inbox, 8)
    plan = plan_night(night_config(inbox), root, BUNDLE, PSEUDONYMS)
    assert code_of(nights.run_plain, tmp_path, monkeypatch) == nights.HELD
    release_night(plan, root)
    assert code_of(nights.run_plain, tmp_path, monkeypatch) == 0
    assert nights.num_redone(tmp_path / "night.log") == 0
    begun = Path(os.environ[nights.DRAFTED])
    assert len(begun.read_text().splitlines()) == len(plan.shards)


def test_the_table_says_what_was_done_again_and_how_processes_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "cases.jsonl"
    table.write_text(
        '{"part": "killed", "problems": [], "injected": {"SIGKILL": 1}, "nights": 1, "redone": 1, '
        '"codes": {"-9": 1, "0": 1}}\n'
        '{"part": "killed", "problems": [], "injected": {"SIGKILL": 1}, "nights": 2}\n'
    )
    assert faults.show(table, ["killed"]) == 3
    assert "| killed | 2 | 2 SIGKILL | 3 | 1 | 1 -9, 1 0 | 0 |" in capsys.readouterr().out
