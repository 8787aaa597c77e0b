"""Objects of a root that is a folder: read whole, written atomically, with a full disk said by its name.

A write goes to a temporary file that is synced and then renamed, or linked where only an absent object may be written.
Knows paths; keys and roots are ``storage.py``'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from pathlib import Path

from crrg.errors import StorageError

DISK_FULL = "DISK.FULL"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def read_file(path: str) -> tuple[bytes, os.stat_result]:
    """Return a file's bytes and what the file system says of them."""
    with open(path, "rb") as file:
        data = file.read()
        return data, os.fstat(file.fileno())


def read_file_into(path: str, memory: memoryview) -> tuple[int, os.stat_result]:
    """Read a file into memory; return how many bytes there were and what the file system says of them."""
    with open(path, "rb", buffering=0) as file:
        num_bytes = 0
        while part := file.readinto(memory[num_bytes:]):
            num_bytes += part
        return num_bytes, os.fstat(file.fileno())


def write_file(path: Path, data: bytes, key: str, *, replace: bool) -> None:
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
    temporary = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(str(path.parent), key) from error
        raise StorageError(f"cannot write: {error.strerror}; check space and permissions", key) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def disk_full(place: str, subject: str, needed: int = 0) -> StorageError:
    """Return the error of a disk without room.

    Args:
        place: A folder on it.
        subject: What was to be written.
        needed: Bytes that work would need; 0 where nothing is known of it.
    """
    found = f"{free_bytes(place) / 2**20:.1f} MB are free in {place}"
    wanted = f"about {needed / 2**20:.1f} MB are needed and " if needed else ""
    reason = f"{DISK_FULL}: {wanted}{found}; make room, then run again: what is done stays"
    return StorageError(reason, subject, code=DISK_FULL)


def free_bytes(place: str) -> int:
    """Return the free bytes of the disk that a folder lies on, or will lie on."""
    folder = Path(place)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
