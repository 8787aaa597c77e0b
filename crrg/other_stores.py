"""Stores that are neither a folder nor S3, through what every client of fsspec has."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from crrg.errors import ConfigError

_MEMORY = "memory"
_CAN_CREATE = (_MEMORY, "gs", "gcs")
"""Kinds of store of which it is known that of several who create an object one succeeds."""
_creating = threading.Lock()
"""Memory is this process's alone, but not this thread's: its client first looks, then writes."""


def read_version(client: Any, url: str) -> tuple[bytes, Mapping[str, Any]]:
    """Return an object's bytes and what its client says of it right after: of a replaced one that is another version.

    Args:
        client: Of the store.
        url: The object.
    """
    return bytes(client.cat_file(url)), client.info(url)


def check_can_create(root: str) -> None:
    """Refuse a kind of store of which nobody knows whether it writes an object only where there is none.

    Args:
        root: URL of the store.

    Raises:
        ConfigError: It is such a kind.
    """
    scheme = root.partition("://")[0]
    if scheme not in _CAN_CREATE:
        reason = "of two writers both would succeed here, so it can only be read; give a folder or s3://bucket/prefix"
        raise ConfigError(reason, root)


def create(client: Any, url: str, data: bytes) -> None:
    """Write an object only where there is none.

    Args:
        client: Of a store that can do so; see ``check_can_create``.
        url: The object.
        data: All bytes.

    Raises:
        FileExistsError: There is one; other clients raise errors of their own for it.
    """
    if url.startswith(f"{_MEMORY}://"):
        with _creating:
            client.pipe_file(url, data, mode="create")
    else:
        client.pipe_file(url, data, mode="create")
