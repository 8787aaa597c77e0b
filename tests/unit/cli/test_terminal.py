"""What a command shows on a real pseudo-terminal, and what it writes into a pipe."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading

from crrg.cli.terminal import aligned

PROGRAM = """
import logging
from crrg.cli.terminal import log_lines
from crrg.progress import count_progress

with log_lines():
    say = count_progress("detector", "steps")
    for step in range(1, 41):
        say(step, 40, f"loss {1 / step:.3f}")
        if step == 20:
            logging.getLogger("crrg.training.loop").warning("step 20 skipped")
            logging.getLogger("elsewhere").info("chatter")
    logging.getLogger("crrg.operations.training.train").info("detector: trained")
    count_progress("selector", "steps")(1, 3)
print("the result")
"""


def run_on_terminal() -> tuple[str, str]:
    """Return what arrives on the terminal, and what goes to standard output."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux ends a pseudo-terminal with an error
                return
            if not data:
                return
            shown.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=theirs, env=env, check=True, timeout=60
    )
    os.close(theirs)
    reader.join(timeout=10)
    os.close(ours)
    return b"".join(shown).decode(), done.stdout.decode()


def visible(shown: str) -> list[str]:
    """Return the lines that stay on the screen: of a line that was drawn several times, the last drawing."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.replace("\r\n", "\n"))
    return [line.rsplit("\r", 1)[-1].rstrip() for line in plain.split("\n")]


def test_on_a_terminal_every_step_is_one_bar_with_log_lines_between() -> None:
    shown, result = run_on_terminal()
    lines = visible(shown)
    bars = [line for line in lines if line.startswith("detector ")]
    assert "40/40 steps" in bars[-1]
    assert "loss 0.025" in bars[-1]
    assert "━" in bars[-1]
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d step 20 skipped", line) for line in lines)
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d detector: trained", line) for line in lines)
    assert "1/3 steps" in lines[-2]
    assert lines[-1] == ""
    assert "chatter" not in shown
    assert "?25l" in shown  # the cursor is hidden while a bar is drawn, and comes back
    assert shown.count("?25h") == shown.count("?25l")
    assert result == "the result\n"


def test_in_a_pipe_there_are_plain_lines_only() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    stamped = done.stderr.splitlines()
    assert [line.partition(" ")[2] for line in stamped] == ["step 20 skipped", "detector: trained"]
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in stamped)
    assert "\x1b" not in done.stderr
    assert done.stdout == "the result\n"


def test_tables_are_aligned_and_the_rest_is_left_alone() -> None:
    plain = "# Night\n\n| figure | value |\n|---|---:|\n| bleu | 0.25 |\n| a longer name | -1 |\n\nno | table\n"
    assert aligned(plain).split("\n") == [
        "# Night",
        "",
        "| figure        | value |",
        "| ------------- | ----: |",
        "| bleu          |  0.25 |",
        "| a longer name |    -1 |",
        "",
        "no | table",
        "",
    ]
    assert aligned("accept,3") == "accept,3"
    # a long remark in one row does not widen the others beyond the terminal
    long = "x" * 100
    assert [len(line) for line in aligned(f"| a | b |\n|---|---|\n| 1 | {long} |\n| 2 | ok |").split("\n")] == [
        50, 50, 110, 50
    ]  # fmt: skip
    assert aligned("") == ""
