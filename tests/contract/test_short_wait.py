"""Threads of torch wait a short time for each other, so that a shared machine is not kept busy by waiting."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crrg import WAIT_COUNT

CHECKOUT = Path(__file__).resolve().parents[2]
VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="torch has another OpenMP elsewhere than on Linux")


def wait_of(module: str, **variables: str) -> str:
    """Return what torch's OpenMP says that its threads wait, in a process that imports a module and then torch."""
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}, torch"],
        env={**env, "OMP_DISPLAY_ENV": "verbose", **variables},
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", done.stderr)
    assert said, done.stderr
    return str(said[0])


@pytest.mark.parametrize("module", ["crrg.cli", "flows.nightly", "flows.train_detector", "benchmarks.training_step"])
def test_every_entry_sets_it_before_torch_is_there(module: str) -> None:
    assert wait_of(module) == WAIT_COUNT


def test_who_chose_otherwise_keeps_it() -> None:
    assert wait_of("crrg", GOMP_SPINCOUNT="77") == "77"
    assert wait_of("crrg", OMP_WAIT_POLICY="active") != WAIT_COUNT
