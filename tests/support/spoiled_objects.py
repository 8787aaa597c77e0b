"""Damage to what lies in a store."""

from __future__ import annotations

from crrg.storage import Storage


def spoil(root: Storage, key: str, is_gone: bool) -> bytes:
    """Flip a bit of an object, or remove it; return what it was."""
    data = root.get(key)
    root.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    if is_gone:
        root.delete(key)
    return data
