from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

PROMISED = (
    "demo", "phantom", "ingest", "ground", "train", "retrain", "bundle", "evaluate", "promote", "import", "radgraph-f1",
    "nightly", "predict", "zero-shot", "deliver", "outcomes", "digest", "gc", "reidentify", "forget", "rekey", "backup",
    "restore", "audit", "doctor", "status", "check", "bootstrap",
)  # fmt: skip


def run(*arguments: str, root: Path | None = None) -> subprocess.CompletedProcess[str]:
    extra = ["--root", str(root)] if root else []
    return subprocess.run(
        [sys.executable, "-m", "crrg.cli", *arguments, *extra], capture_output=True, text=True, check=False
    )


def spent(work: Callable[[], T]) -> tuple[float, T]:
    """Return the processor seconds of child processes that some work took, and what it returned."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    bare = "import typer; app = typer.Typer(); app.command()(lambda: None); app(['--help'])"
    bare_s, _ = spent(lambda: subprocess.run([sys.executable, "-c", bare], capture_output=True, check=True))
    used_s, done = spent(lambda: run("--help"))
    assert done.returncode == 0
    assert used_s < 2.5 * bare_s, f"{used_s:.2f} s of a processor, the help of an empty program takes {bare_s:.2f} s"
    listed = re.findall(r"^│ ([a-z][a-z0-9-]*) ", done.stdout.partition("Commands")[2], re.MULTILINE)
    assert sorted(listed) == sorted(PROMISED)
    code = (
        "import sys, crrg.cli;"
        "print([n for n in ('torch', 'mlflow', 'prefect', 'pyarrow', 'pydantic') if n in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(("typed", "found"), [("crrg ni", "nightly"), ("crrg nightly --dr", "--drift")])
def test_a_shell_completes_commands_and_flags(typed: str, found: str) -> None:
    asked = {"_CRRG_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    code = "import sys; sys.argv = ['crrg']; from crrg.cli import app; app()"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True)
    assert done.stdout.split() == [found], done.stderr


@pytest.mark.parametrize("command", PROMISED)
def test_every_command_explains_itself(command: str) -> None:
    from typer.testing import CliRunner

    from crrg.cli import app

    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    assert run("train", "painter", root=tmp_path).returncode == 2
    assert run("promote", root=tmp_path).returncode == 2
    nameless = run("bundle", root=tmp_path)
    assert nameless.returncode == 2
    assert "name their folders (--from, once for each)" in nameless.stderr
    refused = run("retrain", "--preset", "huge", root=tmp_path)
    assert refused.returncode == 2
    assert "preset" in refused.stderr


def test_a_missing_dataset_names_the_way_out(tmp_path: Path) -> None:
    done = run("train", "detector", "--dataset", "nowhere", root=tmp_path)
    assert done.returncode == 2
    assert "crrg ingest" in done.stderr


def test_a_missing_champion_is_exit_code_1_before_anything_is_read(tmp_path: Path) -> None:
    done = run("evaluate", "--dataset", "nowhere", root=tmp_path)
    assert done.returncode == 1
    assert "champion" in done.stderr


def test_a_bootstrap_of_no_server_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from crrg.cli import app

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("os.execve", lambda *_: pytest.fail("a server that dies with the command was set up"))
    done = CliRunner().invoke(app, ["bootstrap"])
    assert done.exit_code == 2, done.output
    assert "PREFECT_API_URL: it is not set" in done.stderr


@pytest.mark.parametrize(("said", "kept"), [(None, "1"), ("0", "0")])
def test_programs_beside_the_library_report_to_nobody(
    said: str | None, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crrg.cli.running import find_program
    from deployments.services import QUIET_ENV

    for name in QUIET_ENV:
        monkeypatch.delenv(name, raising=False)
    if said is not None:
        monkeypatch.setenv("DO_NOT_TRACK", said)
    for module in ("flows", "flows.waiting", "deployments.bootstrap"):
        found = find_program(module)
        assert found is not None
        assert found[1]["DO_NOT_TRACK"] == kept, module
        assert found[1]["PREFECT_SERVER_ANALYTICS_ENABLED"] == QUIET_ENV["PREFECT_SERVER_ANALYTICS_ENABLED"]


def test_the_digest_of_an_empty_root_is_a_sha256(tmp_path: Path) -> None:
    done = run("digest", root=tmp_path)
    assert done.returncode == 0
    assert len(done.stdout.strip()) == 64
