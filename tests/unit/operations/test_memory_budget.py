"""A process with a budget of memory halves its batches where another would be ended by its container."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crrg.config.base import LEAST_MEMORY_MIB, Settings
from crrg.errors import ConfigError

SCRIPT = """
import logging, resource, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
from crrg.operations.root import open_root
import torch
from crrg.device import in_batches
torch.set_num_threads(1)
open_root()
print("limit", resource.getrlimit(resource.RLIMIT_DATA)[0] // 2**20)

def work(first, last):
    taken = torch.ones((last - first, int(sys.argv[1]), 2**20), dtype=torch.uint8)
    return [int(row) for row in taken[:, -1, -1] + torch.arange(first, last)]

print("rows", *(row for part in in_batches(8, 8, work) for row in part))
"""


def run_with(budget_mib: int, row_mib: int, root: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "CRRG_MEMORY_MIB": str(budget_mib), "CRRG_ROOT": str(root)}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(row_mib)], env=env, capture_output=True, text=True, check=False
    )


def test_what_does_not_fit_is_done_in_smaller_batches(tmp_path: Path) -> None:
    done = run_with(2048, 400, tmp_path)
    assert (done.returncode, done.stderr.count("out of memory; continuing with batches of")) != (0, 0)
    assert done.stdout.splitlines() == ["limit 2048", "rows 1 2 3 4 5 6 7 8"]


def test_what_does_not_fit_at_all_is_said(tmp_path: Path) -> None:
    done = run_with(2048, 4000, tmp_path)
    assert done.returncode == 1
    assert "not enough memory for a single film" in done.stderr


def test_without_a_budget_nothing_is_limited(tmp_path: Path) -> None:
    done = run_with(0, 1, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1] == "rows 1 2 3 4 5 6 7 8"


@pytest.mark.parametrize("value", [1, LEAST_MEMORY_MIB - 1])
def test_a_budget_that_the_libraries_alone_would_exceed_is_refused(value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_MEMORY_MIB", str(value))
    with pytest.raises(ConfigError, match=f"CRRG_MEMORY_MIB: .* give at least {LEAST_MEMORY_MIB}"):
        Settings()
