"""Something that happens right before an object of an archive is read, by whichever way it is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crrg.storage import Storage, StoredObject


def before_reading(monkeypatch: pytest.MonkeyPatch, happens: Callable[[StoredObject], None]) -> None:
    """Call something with every object before it is read; what it raises takes the place of the reading."""
    get, read_into = Storage.get_unchanged, Storage.read_unchanged

    def get_after(self: Storage, stored: StoredObject) -> bytes:
        happens(stored)
        return get(self, stored)

    def read_after(self: Storage, stored: StoredObject, memory: memoryview) -> None:
        happens(stored)
        read_into(self, stored, memory)

    monkeypatch.setattr(Storage, "get_unchanged", get_after)
    monkeypatch.setattr(Storage, "read_unchanged", read_after)
