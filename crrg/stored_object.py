"""One object of a store as a listing shows it, whatever the store calls what it says of it. Knows no store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MODIFIED = ("mtime", "LastModified", "last_modified", "created")
_ETAG = ("ETag", "etag")


@dataclass(frozen=True)
class StoredObject:
    """One object as a listing shows it.

    Attributes:
        key: Key relative to the root.
        size: Bytes.
        modified_s: Store's modification time, seconds since the epoch.
        etag: The store's version mark; a digest over key, size and modification time where it has none, as folders.
    """

    key: str
    size: int
    modified_s: float
    etag: str


def stored_object(key: str, info: Mapping[str, Any]) -> StoredObject:
    """Return an object as a client of its store describes it.

    Args:
        key: Key relative to the root.
        info: Its size, and its version mark and modification time under one of the names that clients use.
    """
    modified = next((info[name] for name in _MODIFIED if name in info), 0.0)
    modified_s = modified.timestamp() if hasattr(modified, "timestamp") else float(modified)
    size, etag = int(info["size"]), next((str(info[name]).strip('"') for name in _ETAG if name in info), "")
    if not etag:
        # hashed with the key: records keep it, and when a source's file was written is a date of the examination
        named = f"{key}\0{size:x}\0{int(modified_s * 1e6):x}".encode("utf-8", "surrogateescape")
        etag = hashlib.sha256(named).hexdigest()[:24]
    return StoredObject(key=key, size=size, modified_s=modified_s, etag=etag)


def local_etag(key: str, status: os.stat_result) -> str:
    """Return the version mark of a file."""
    return stored_object(key, {"size": status.st_size, "mtime": status.st_mtime}).etag
