"""Objects of a night that nobody overwrites, whoever else is at work on the same run.

A holder that was frozen works on when it wakes up, until its commit is refused. What it writes by then must not take
the place of what another holder's manifest names: where other bytes lie under a name, new ones go beside it.
"""

from __future__ import annotations

import hashlib

from crrg.errors import Conflict
from crrg.storage import Storage

_NUM_DIGITS = 16


def put_beside(storage: Storage, key: str, data: bytes) -> str:
    """Write an object under its name, or beside it where other bytes lie there; return where.

    Beside it means ``<stem>.<digest><suffix>``, so that such a name holds the same bytes whoever writes it.

    Args:
        storage: The root.
        key: The object's name, with a suffix.
        data: Its bytes.
    """
    try:
        storage.put_if_absent(key, data)
    except Conflict:
        stem, _, suffix = key.rpartition(".")
        key = f"{stem}.{hashlib.sha256(data).hexdigest()[:_NUM_DIGITS]}.{suffix}"
        storage.put(key, data)
    return key


def usual_name(key: str) -> str:
    """Return the name that an object would have if nothing had lain there."""
    stem, _, suffix = key.rpartition(".")
    head, _, digest = stem.rpartition(".")
    is_beside = bool(head) and len(digest) == _NUM_DIGITS and "/" not in digest
    return f"{head}.{suffix}" if is_beside else key
