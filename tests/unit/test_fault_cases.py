"""A case of `make faults` is not well where a process ended as it must not, or too much was done again."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import __main__ as faults
from benchmarks.faults import cases, nights
from benchmarks.faults.cases import Ending, Finding, LocalCases, judged
from crrg.errors import StorageError
from crrg.operations.night import feed as night_feed
from crrg.operations.night.nightly import plan_night, release_night
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, fill_inbox, night_config


class AllIsThere:
    """An undisturbed night that every root equals."""

    inbox = Storage("memory://inbox")

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
    monkeypatch.setattr(nights, "end_on_sigterm", lambda: None)
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


class Signalled:
    """A night that is at work when the signal comes, and ends with a given status."""

    pid = 2**22 + 1

    def __init__(self, log: Path, said: str, code: int) -> None:
        log.write_text(said)
        self.codes = iter([None, code])

    def wait(self, _timeout_s: float) -> int:
        code = next(self.codes)
        if code is None:
            raise TimeoutError
        return code


def signalled(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str, said: str, code: int) -> Finding:
    """Return what a case shows whose night had said this and ended with this status."""
    local = object.__new__(LocalCases)
    local.folder, local.seconds, local.undisturbed = folder, 1.0, AllIsThere()  # type: ignore[assignment]
    monkeypatch.setattr(cases, "start_night", lambda _inbox, _root, log, **_: Signalled(log, said, code))
    monkeypatch.setattr(cases, "finish", lambda *_, **__: [0])
    monkeypatch.setattr(cases.os, "kill", lambda *_: None)
    return getattr(local, kind)(1)


LISTENS = "2026-11-20 01:00:00 process 7 listens\n"


def test_sigterm_itself_ends_a_night_only_before_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = signalled(monkeypatch, tmp_path, "terminated", LISTENS, -signal.SIGTERM)
    assert lost.problems == ["that night ended with {-15: 1}"]
    early = signalled(monkeypatch, tmp_path, "terminated", "", -signal.SIGTERM)
    assert (early.problems, early.injected, early.codes) == ([], {"SIGTERM": 1}, {"-15": 1, "0": 1})
    for said in ("", LISTENS):
        heard = signalled(monkeypatch, tmp_path, "terminated", said, 143)
        assert (heard.problems, heard.injected, heard.codes) == ([], {"SIGTERM": 1}, {"143": 1, "0": 1})
    killed = signalled(monkeypatch, tmp_path, "killed", LISTENS, -signal.SIGKILL)
    assert (killed.problems, killed.injected, killed.codes) == ([], {"SIGKILL": 1}, {"-9": 1, "0": 1})
    assert signalled(monkeypatch, tmp_path, "killed", LISTENS, 143).problems


@pytest.mark.parametrize("kind", ["killed", "terminated"])
def test_a_night_that_was_done_before_the_signal_came_is_no_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    done = signalled(monkeypatch, tmp_path, kind, LISTENS, 0)
    assert (done.problems, done.injected, done.codes) == ([], {}, {"0": 2})


def test_the_first_line_of_a_night_says_that_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    heard: list[int] = []
    monkeypatch.setenv(nights.DRAFTED, "")
    monkeypatch.setattr(nights.os, "dup2", lambda *_: None)
    monkeypatch.setattr(nights, "end_on_sigterm", lambda: heard.append(len(caplog.records)))
    nights._run(lambda *_: None, str(tmp_path), str(tmp_path), 0.0, 0, str(tmp_path / "night.log"), {})
    assert heard == [0]
    assert "listens" in caplog.records[0].message


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
