"""What other work on the machine costs: both ways are measured in turns beside processes that end with it."""

from __future__ import annotations

import argparse
import subprocess
from typing import Any

import pytest

from benchmarks import shared_machine
from benchmarks.shared_machine import WAYS, busy_processes, row, step_s


def test_ways_take_turns_beside_busy_processes_and_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[int] = []
    asked: list[tuple[str, int]] = []

    class Process:
        def __init__(self, command: list[str]) -> None:
            running.append(len(command))

        def kill(self) -> None:
            running.pop()

        def wait(self) -> None:
            pass

    def measure(way: str) -> float:
        asked.append((way, len(running)))
        return {"short wait": 2.0, "libgomp's wait": 5.0}[way] + len(asked) // 3

    monkeypatch.setattr(shared_machine.subprocess, "Popen", Process)
    line = row("draft", 2, 2, measure)
    assert asked == [(way, 2) for _ in range(2) for way in WAYS]
    assert not running
    assert line == "| draft | 2 | 2.500 (2.000 to 3.000) | 5.500 (5.000 to 6.000) | 2.20 |"


def test_busy_processes_are_gone_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    popen = subprocess.Popen

    def remembered(command: list[str]) -> subprocess.Popen[bytes]:
        started.append(popen(command))
        return started[-1]

    monkeypatch.setattr(shared_machine.subprocess, "Popen", remembered)

    def fails() -> None:
        with busy_processes(2):
            assert [process.poll() for process in started] == [None, None]
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fails()
    assert all(process.poll() is not None for process in started)


def test_a_training_step_takes_time() -> None:
    assert step_s(argparse.Namespace(preset="tiny", steps=1)) > 0
