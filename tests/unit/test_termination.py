"""SIGTERM ends a process with 143 wherever it meets it, and whatever keeps it from ending."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

IN_A_CALLBACK = """
import os, signal, sys, time, weakref
from crrg import termination
class Held: pass
class Foreign(BaseException): pass
def foreign(_number, _frame): raise Foreign
def let_go(_reference):
    print("here", flush=True)
    end = time.monotonic() + 5
    while time.monotonic() < end: pass
def work():
    if sys.argv[1] == "foreign":
        signal.signal(signal.SIGTERM, foreign)
        termination.repeat_dropped_terminations(Foreign)
    else:
        termination.end_on_sigterm()
    held = Held()
    reference = weakref.ref(held, let_go)
    del held
    time.sleep(60)
try:
    work()
except Foreign:
    raise SystemExit(7)
"""
"""Runs for seconds inside the callback of a weak reference, where Python drops what is raised."""

UNWINDING = """
import sys, threading, time
from crrg.cli.running import exits
from crrg import termination
termination.GRACE_S, termination.end_within.__defaults__ = 0.5, (0.5,)
def linger(): time.sleep(120)
with exits():
    try:
        threading.Thread(target=linger).start()
        print("here", flush=True)
        time.sleep(60)
    finally:
        print("given back", flush=True)
"""
"""Ends its main thread at once and is kept by another one."""


def terminated(program: str, *arguments: str) -> tuple[int, str, str]:
    """Send SIGTERM to a program when it says ``here``; return how it ended, and what else it said."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "here\n"
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            said, complained = process.communicate(timeout=50)
        finally:
            process.kill()
        return process.returncode, said, complained


@pytest.mark.parametrize(("kind", "code"), [("own", 143), ("foreign", 7)])
def test_a_termination_that_python_drops_comes_again(kind: str, code: int) -> None:
    assert terminated(IN_A_CALLBACK, kind) == (code, "", "")


def test_without_it_the_termination_would_be_lost() -> None:
    plain = IN_A_CALLBACK.replace("termination.repeat_dropped_terminations(Foreign)", "pass").replace(
        "time.sleep(60)", "time.sleep(1)"
    )
    code, _, complained = terminated(plain, "foreign")
    assert code == 0
    assert "Exception ignored in" in complained


def test_what_does_not_end_by_itself_is_ended_with_143() -> None:
    assert terminated(UNWINDING)[:2] == (143, "given back\n")


def test_other_dropped_exceptions_are_reported_as_ever() -> None:
    program = (
        "import weakref\nfrom crrg import termination\ntermination.end_on_sigterm()\n"
        "class Held: pass\nheld = Held()\nreference = weakref.ref(held, lambda _: 1 / 0)\ndel held\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    assert "ZeroDivisionError" in done.stderr
