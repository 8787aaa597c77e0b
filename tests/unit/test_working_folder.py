"""Working folders: gone after their block, and removed by others only where their process is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from crrg import working_folder as module
from crrg.cli import lifecycle
from crrg.operations.privacy import forget as forgetting
from crrg.operations.upkeep.gc import collect_garbage
from crrg.storage import Storage
from crrg.working_folder import clear_left_folders, working_folder

WORK = """
import sys
from crrg.working_folder import working_folder
with working_folder() as folder:
    (folder / "film.png").write_bytes(b"film")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this process and of its children."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def at_work() -> tuple[subprocess.Popen[str], Path]:
    """Start a process that works in a folder, and return both."""
    command = [sys.executable, "-c", WORK]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    return child, Path(child.stdout.readline().strip())


def kill(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)


def left_by_a_killed_process() -> Path:
    child, folder = at_work()
    kill(child)
    assert (folder / "film.png").read_bytes() == b"film"
    return folder


def test_a_folder_is_empty_and_gone_after_its_block(temporary):
    with working_folder() as folder:
        assert list(folder.iterdir()) == []
        assert temporary in folder.parents
        assert folder.parent.stat().st_mode & 0o077 == 0
        (folder / "below").mkdir()
        (folder / "below" / "film.png").write_bytes(b"film")
        assert clear_left_folders() == 0
        assert (folder / "below" / "film.png").exists()
    assert list(temporary.iterdir()) == []


def test_a_folder_goes_once_its_process_is_dead_and_not_before(temporary):
    child, folder = at_work()
    try:
        assert clear_left_folders() == 0
        assert (folder / "film.png").exists()
    finally:
        kill(child)
    assert clear_left_folders(remove=False) == 1
    assert (folder / "film.png").exists()
    assert clear_left_folders() == 1
    assert list(temporary.iterdir()) == []


def test_what_is_not_a_left_folder_of_this_account_stays(temporary, monkeypatch):
    (temporary / "crrg-work-mine").mkdir()
    (temporary / "crrg-work-mine" / "notes.txt").write_text("a person's own folder")
    (temporary / "crrg-data").mkdir()
    (temporary / "crrg-data" / "in-use").write_text("")
    elsewhere = left_by_a_killed_process().parent.rename(temporary.parent / "elsewhere")
    (temporary / "crrg-work-link").symlink_to(elsewhere, target_is_directory=True)
    assert clear_left_folders() == 0
    (temporary / "crrg-work-link").unlink()
    elsewhere.rename(temporary / "crrg-work-other")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 12345)
        assert clear_left_folders() == 0
    assert clear_left_folders() == 1
    assert {path.name for path in temporary.iterdir()} == {"crrg-work-mine", "crrg-data"}


def test_a_folder_that_is_taken_for_left_behind_before_it_is_locked_is_replaced(temporary, monkeypatch):
    locked, tidied = module.fcntl.flock, []

    def tidy_first(descriptor: int, how: int) -> None:
        if not tidied:
            tidied.append(None)
            tidied.append(clear_left_folders())
        locked(descriptor, how)

    monkeypatch.setattr(module.fcntl, "flock", tidy_first)
    with working_folder() as folder:
        assert tidied == [None, 1]
        assert list(folder.iterdir()) == []
    assert list(temporary.iterdir()) == []


def test_gc_removes_what_killed_processes_left_on_this_machine(tmp_path, temporary):
    left_by_a_killed_process()
    root = Storage(str(tmp_path / "root"))
    found = collect_garbage(root)
    assert (found.num_folders, found.is_removed) == (1, False)
    assert "1 folders of killed processes among temporary files would be removed" in lifecycle._shown(found)
    removed = collect_garbage(root, remove=True)
    assert (removed.num_folders, removed.is_removed, list(temporary.iterdir())) == (1, True, [])
    assert "1 folders of killed processes among temporary files removed" in lifecycle._shown(removed)


@pytest.mark.parametrize("dry_run", [True, False])
def test_forget_removes_what_killed_processes_left_on_this_machine(tmp_path, temporary, monkeypatch, dry_run):
    def forget(*_: object, remove: bool) -> forgetting.Forgetting:
        return forgetting.Forgetting(num_patients=1, is_removed=remove)

    def execute(_root: str, run: Callable[..., object], _shown: object, **_: object) -> None:
        run(Storage(str(tmp_path / "root")), None)

    monkeypatch.setattr(forgetting, "forget", forget)
    monkeypatch.setattr(lifecycle, "execute", execute)
    folder = left_by_a_killed_process()
    lifecycle.forget(["0" * 32], dry_run=dry_run, yes=True)
    assert folder.exists() == dry_run
