"""Objects of a root that is a folder: read whole, written atomically, with a full disk said by its name.

A write goes to a temporary file that is synced and then renamed, or linked where only an absent object may be written.
Knows paths; keys and roots are ``storage.py``'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from crrg.errors import ConfigError, StorageError

DISK_FULL = "DISK.FULL"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PACKAGE = f"{Path(__file__).parent}/"
_TEMPORARY = re.compile(r".+\.tmp-[0-9a-f]{32}", re.DOTALL)


def is_temporary(name: str) -> bool:
    """Return whether a file name is one that ``write_file`` gives to what is not written yet."""
    return _TEMPORARY.fullmatch(name) is not None


def find_files(folder: str, *, temporary: bool = False) -> dict[str, dict[str, Any]]:
    """Return type, size and modification time of every file below a folder, by path; links are not followed.

    What goes away meanwhile is not there; a folder that cannot be read is an error, since its files would silently be
    nobody's.

    Args:
        folder: Where to look.
        temporary: Look for what is not written yet, or was left so by a process that was killed, and for nothing else.

    Raises:
        OSError: A folder cannot be read.
    """
    files: dict[str, dict[str, Any]] = {}
    waiting = [folder]
    while waiting:
        with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False) and is_temporary(entry.name) == temporary:
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        files[entry.path] = {"type": "file", "size": status.st_size, "mtime": status.st_mtime}
    return files


def check_folder(root: str, subject: str) -> None:
    """Refuse a file where a folder or a URL is wanted.

    Args:
        root: A path, or a URL, which is not looked at.
        subject: What it was given as, for the message.

    Raises:
        ConfigError: It is a file.
    """
    if os.path.isfile(root.removeprefix("file://")):
        raise ConfigError("this is a file; name the folder that contains it", subject)


def check_access(root: str, subject: str, *, write: bool = False) -> None:
    """Check that this account may use a folder: what would fail at the first object is said before anything begins.

    Args:
        root: Path of the folder, which may be missing: then the nearest one above it is looked at.
        subject: What it was given as, for the message.
        write: Whether it is to be written, or made, and not only read.

    Raises:
        ConfigError: A file stands in its way, or its permissions do not allow it.
    """
    there = root
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise ConfigError(f"{there} is no folder; give another place, or move it away", subject)
    needed = os.X_OK | (os.R_OK if there == root else 0) | (os.W_OK if write else 0)
    if not os.access(there, needed):
        what = "write to" if os.access(there, needed & ~os.W_OK) else "read"
        raise ConfigError(
            f"this account may not {what} the folder {there}; give it the permission (chown, chmod), or give another "
            "place",
            subject,
        )


def system_error(error: OSError) -> StorageError:
    """Return what a person reads of an error of the system that nothing further inside has put into words."""
    if error.errno in _FULL:
        return disk_full(os.path.dirname(str(error.filename or "")) or tempfile.gettempdir(), "")
    # without the path, which may be a source's name, but with our own line, by which a defect can be found
    said = ": ".join(filter(None, (type(error).__name__, error.strerror)))
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_PACKAGE)]
    place = f" ({ours[-1].filename.removeprefix(_PACKAGE)}:{ours[-1].lineno})" if ours else ""
    return StorageError(
        f"{said}{place}; check the permissions of the folders in use (--root, --out, TMPDIR) and the addresses in the "
        "settings, then run again: finished work is kept"
    )


def read_file(path: str) -> tuple[bytes, os.stat_result]:
    """Return a file's bytes and what the file system says of them; a link is as good as no file."""
    with open(path, "rb", opener=_open_no_link) as file:
        data = file.read()
        return data, os.fstat(file.fileno())


def read_file_into(path: str, memory: memoryview) -> tuple[int, os.stat_result]:
    """Read a file into memory; return how many bytes there were and what the file system says of it; no link."""
    with open(path, "rb", buffering=0, opener=_open_no_link) as file:
        num_bytes = 0
        while part := file.readinto(memory[num_bytes:]):
            num_bytes += part
        return num_bytes, os.fstat(file.fileno())


def _open_no_link(path: str, flags: int) -> int:
    """Open a file, unless a link to another one, anywhere on the machine, took its place since it was listed."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        raise


def write_file(path: str | Path, data: bytes, key: str, *, replace: bool) -> None:
    """Write a file so that readers see all of it or nothing.

    Args:
        path: Where; missing folders are made.
        data: All bytes.
        key: The object, for messages.
        replace: Whether a file that is there is replaced.

    Raises:
        FileExistsError: There is one, and it is not to be replaced.
        StorageError: The disk is full (code ``DISK.FULL``), or does not let itself be written; nothing is left.
    """
    temporary = f"{path}.tmp-{secrets.token_hex(16)}"
    try:
        with _created(temporary, key) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(os.path.dirname(path), key) from error
        raise StorageError(f"cannot write: {error.strerror}; check space and permissions", key) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _created(path: str, key: str) -> BinaryIO:
    """Open a new file; its folder is made only where it is missing, since it is there as a rule."""
    try:
        return open(path, "wb")
    except (FileNotFoundError, NotADirectoryError):
        pass
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except FileExistsError:
        raise StorageError("cannot write: a file has the name of a folder that is needed; move it away", key) from None
    return open(path, "wb")


def disk_full(place: str, subject: str, needed: int = 0, way_out: str = "make room") -> StorageError:
    """Return the error of a disk without room.

    Args:
        place: A folder on it.
        subject: What was to be written.
        needed: Bytes that work would need; 0 where nothing is known of it.
        way_out: What to do about it.
    """
    found = f"{free_bytes(place) / 2**20:.1f} MB are free in {place}"
    wanted = f"about {needed / 2**20:.1f} MB are needed and " if needed else ""
    reason = f"{DISK_FULL}: {wanted}{found}; {way_out}, then run again: finished work is kept"
    return StorageError(reason, subject, code=DISK_FULL)


def check_disk(place: str, subject: str, needed: int, way_out: str = "make room") -> None:
    """Check that there is room before work that needs it.

    Args:
        place: A folder on the disk.
        subject: What is to be written.
        needed: Bytes.
        way_out: What to do where there is not.

    Raises:
        StorageError: There is not, code ``DISK.FULL``.
    """
    if free_bytes(place) < needed:
        raise disk_full(place, subject, needed, way_out)


@contextlib.contextmanager
def full_disk_named(subject: str) -> Iterator[None]:
    """Say by its name that the disk of temporary files is full, where something within the block finds that.

    Args:
        subject: What was to be made.

    Raises:
        StorageError: It is, code ``DISK.FULL``.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise disk_full(tempfile.gettempdir(), subject) from error


def free_bytes(place: str) -> int:
    """Return the free bytes of the disk that a folder lies on, or will lie on."""
    folder = Path(place)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
