"""``make up`` as a user meets it: addresses that answer, and nothing left after Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments.services import CHECKOUT, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(900)]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    ports = {f"CRRG_{name}_PORT": str(free_port()) for name in ("PREFECT", "MLFLOW", "S3")}
    env = {**os.environ, **ports, "CRRG_PLATFORM_DIR": str(tmp_path / "platform")}
    process = subprocess.Popen(
        [sys.executable, "-m", "deployments.up"],
        cwd=CHECKOUT,
        env=env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    for child in [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []:
        child.kill()
    process.kill()
    process.wait()


def lines_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    lines: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError("".join(lines))


def end(process: subprocess.Popen[str], number: signal.Signals) -> list[psutil.Process]:
    """Send a signal and return the processes that are left of it."""
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.wait(timeout=60)
    deadline = time.monotonic() + 10
    while any(member.is_running() for member in family) and time.monotonic() < deadline:
        time.sleep(0.2)
    return [member for member in family if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]


def test_the_printed_addresses_answer_and_ctrl_c_ends_everything(
    platform: subprocess.Popen[str], tmp_path: Path
) -> None:
    shown = "".join(lines_until(platform, "env.sh"))
    addresses = dict(re.findall(r"^  (Prefect|MLflow|S3) +(http://127\.0\.0\.1:\d+)", shown, flags=re.MULTILINE))
    assert set(addresses) == {"Prefect", "MLflow", "S3"}
    for path in ("Prefect/api/health", "MLflow/health"):
        name, _, rest = path.partition("/")
        with urllib.request.urlopen(f"{addresses[name]}/{rest}", timeout=10) as answer:
            assert answer.status == 200
    assert len(psutil.Process(platform.pid).children()) == 5, "store, MLflow, Prefect, workers of `local` and `night`"
    secrets = tmp_path / "platform" / "env.sh"
    assert secrets.stat().st_mode & 0o077 == 0
    assert end(platform, signal.SIGINT) == []
    assert platform.returncode == 0


def test_ctrl_c_while_it_starts_leaves_nothing_either(platform: subprocess.Popen[str]) -> None:
    lines_until(platform, "object-store answers")
    started_s = time.monotonic()
    assert end(platform, signal.SIGINT) == []
    assert platform.returncode == 0
    assert time.monotonic() - started_s < 30  # it does not wait until the next service is up
