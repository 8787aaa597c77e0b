"""Commands whose Prefect server does not answer do the same work without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.keys import KEY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CRRG = Path(sys.executable).with_name("crrg")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    nobody = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_CLIENT_MAX_RETRIES": "0"}
    return {**os.environ, **nobody, "CRRG_ROOT": str(tmp_path / "root"), "CRRG_HMAC_KEY": KEY}


def crrg(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([CRRG, *arguments], env=env, capture_output=True, text=True, check=False)


def test_an_ingest_is_committed_once_and_found_again(env: dict[str, str], tmp_path: Path) -> None:
    assert crrg(env, "phantom", str(tmp_path / "drawn"), "--studies", "6", "--size", "256").returncode == 0
    sharded = crrg(env, "ingest", str(tmp_path / "drawn"), "--dataset", "drawn", "--task-runner", "processes")
    assert sharded.returncode == 0, sharded.stderr
    assert "the Prefect server does not answer; ingest continues without it" in sharded.stderr
    again = crrg(env, "ingest", str(tmp_path / "drawn"), "--dataset", "drawn")
    assert again.returncode == 0
    assert "holds these inputs already, reused" in again.stderr


def test_a_retraining_says_what_is_wrong_with_it_and_not_with_its_server(env: dict[str, str]) -> None:
    Path(env["CRRG_ROOT"], "datasets").mkdir(parents=True)
    done = crrg(env, "retrain", "--dataset", "unheard-of")
    assert done.returncode == 2
    assert "the Prefect server does not answer; retrain continues without it" in done.stderr
    assert "unheard-of" in done.stderr.splitlines()[-1]
