"""A root that is missing or cannot be used is said at once: one line, before an orchestrator starts, nothing left."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner

from crrg import local_files
from crrg.cli import app, running
from crrg.cli.running import exits
from tests.support.keys import KEY

ABOUT_WHAT_IS_THERE = [
    ("status",), ("check",), ("check", "--inbox", "inbox"), ("digest",), ("digest", "--date", "2026-11-20"),
    ("gc", "--yes"), ("audit", "verify"), ("audit", "show"), ("backup", "copy"), ("forget", "a", "--yes"),
    ("reidentify", "a", "--inbox", "inbox"), ("rekey", "--inbox", "inbox", "--yes"), ("deliver", "--inbox", "inbox"),
    ("nightly", "--inbox", "inbox", "--no-orchestrator"), ("nightly", "--inbox", "inbox", "--model", "3"),
    ("nightly", "--inbox", "inbox"), ("retrain", "--dataset", "d"),
]  # fmt: skip
THROUGH_PREFECT = [("nightly", "--inbox", "inbox", "--model", "bundle"), ("demo",)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> NoReturn:
        raise AssertionError("the orchestrator would be started")

    monkeypatch.setattr(running.os, "execve", never)
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("inbox").mkdir()


def line_of(*arguments: str, code: int = 2) -> str:
    before = sorted(Path().rglob("*"))
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, (done.output, done.exception)
    assert sorted(Path().rglob("*")) == before
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("command", ABOUT_WHAT_IS_THERE, ids=" ".join)
def test_a_command_about_what_is_there_refuses_a_root_that_is_not(command: tuple[str, ...], tmp_path: Path) -> None:
    line = line_of(*command, "--root", "mistyped")
    assert line.startswith(f"crrg: ConfigError: root: there is no root at {tmp_path / 'mistyped'}; check --root")


def test_a_bucket_without_anything_below_its_prefix_is_no_root() -> None:
    assert "there is no root at memory://nobody/here" in line_of("status", "--root", "memory://nobody/here")


@pytest.mark.parametrize("command", [("nightly", "--inbox", "inbox"), ("retrain", "--dataset", "d")], ids=" ".join)
def test_so_does_a_night_or_training_in_a_folder_that_holds_nothing(command: tuple[str, ...]) -> None:
    Path("empty/.prefect").mkdir(parents=True)
    assert "there is no root at" in line_of(*command, "--root", "empty")


@pytest.mark.parametrize("command", THROUGH_PREFECT, ids=" ".join)
def test_a_root_below_a_file_or_without_permission(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    assert "file is no folder; give another place" in line_of(*command, "--root", "file/root")
    Path("root").mkdir()

    def refuse(bit: int) -> None:
        monkeypatch.setattr(local_files.os, "access", lambda path, mode: not mode & bit)

    refuse(os.W_OK)
    assert "this account may not write to the folder" in line_of(*command, "--root", "root")
    assert "this account may not write to the folder" in line_of(*command, "--root", "new")
    refuse(os.R_OK)
    assert "this account may not read the folder" in line_of(*command, "--root", "root")
    assert "this account may not read the folder" in line_of("status", "--root", "root")


def test_a_folder_that_may_only_be_read_can_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("root").mkdir()
    monkeypatch.setattr(local_files.os, "access", lambda path, mode: not mode & os.W_OK)
    assert CliRunner().invoke(app, ["status", "--root", "root"]).exit_code == 0


def test_a_full_disk_is_named_before_the_orchestrator_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_files, "free_bytes", lambda place: 4096)
    line = line_of(*THROUGH_PREFECT[0], "--root", "root", code=1)
    assert line.startswith("crrg: StorageError: DISK.FULL: about 16.0 MB are needed and 0.0 MB are free in ")


def test_a_missing_secret_is_named_before_the_orchestrator_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRRG_HMAC_KEY")
    assert "CRRG_HMAC_KEY: pseudonyms need a secret" in line_of(*THROUGH_PREFECT[0], "--root", "root")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/inbox/Doe^Jane.dcm"), "PermissionError: Permission de"),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "DISK.FULL: "),
    ],
)
def test_an_error_of_the_system_is_a_line_without_a_source_s_name(
    error: OSError, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, exits():
        raise error
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert line.startswith(f"crrg: StorageError: {said}")
    assert "Doe" not in line
    assert "DISK.FULL" in line or "(cli/running.py:" in line


def test_a_reader_that_has_gone_is_no_error_of_ours() -> None:
    def write() -> Any:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError), exits():
        write()
