"""Folders for files that need a name, which the next to tidy up removes where their process was killed.

A killed process removes nothing. So every folder holds a file that its process keeps locked; the system gives the lock
up with the process, however that ends, and what nobody holds any more may go. What needs no name is better off in a
``tempfile.TemporaryFile``, which goes with its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX, _MARK, _FILES = "crrg-work-", "in-use", "files"


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    """Yield a new, empty folder among temporary files, which is gone after the block."""
    folder, lock = _new_folder()
    try:
        yield folder / _FILES
    finally:
        _remove(folder)
        os.close(lock)


def clear_left_folders(*, remove: bool = True) -> int:
    """Remove the working folders that killed processes of this account left on this machine.

    Args:
        remove: Whether to; otherwise they are only counted.

    Returns:
        How many there are.
    """
    with os.scandir(tempfile.gettempdir()) as entries:
        ours = [Path(entry.path) for entry in entries if entry.name.startswith(_PREFIX) and _is_own_folder(entry)]
    return sum(_clear(folder, remove=remove) for folder in ours)


def _new_folder() -> tuple[Path, int]:
    """Return a new folder and the descriptor that locks it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        mark = folder / _MARK
        lock = os.open(mark, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # whoever tidied up may have taken it for left behind before it was locked
        if mark.exists():
            (folder / _FILES).mkdir()
            return folder, lock
        os.close(lock)


def _is_own_folder(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(OSError):
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid()
    return False


def _clear(folder: Path, *, remove: bool) -> bool:
    """Remove a folder unless its process lives; return whether it does not."""
    try:
        lock = os.open(folder / _MARK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        if remove:
            _remove(folder)
        return True
    finally:
        os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a folder, what marks it last: what is cut off here is found again."""
    shutil.rmtree(folder / _FILES, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
