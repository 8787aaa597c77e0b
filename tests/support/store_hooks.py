"""Something that happens right before an object of an archive is read, or a refusal, by whichever way it is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Container

import pytest

from crrg import local_files
from crrg.storage import Storage, StoredObject

Refuse = Callable[[int, Container[str]], None]
"""Takes the number of the system's error and the keys that are refused from now on."""


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


def refusing(monkeypatch: pytest.MonkeyPatch, place: Storage) -> Refuse:
    """Return what lets the file system refuse to open some objects of a folder, by whatever way they are read."""
    read, read_into, real_open = local_files.read_file, local_files.read_file_into, open

    def refuse(number: int, keys: Container[str]) -> None:
        def check(path: str) -> None:
            if str(path).startswith(place.root) and str(path).removeprefix(f"{place.root}/") in keys:
                raise OSError(number, os.strerror(number), path)

        def read_file(path: str) -> tuple[bytes, os.stat_result]:
            check(path)
            return read(path)

        def read_file_into(path: str, memory: memoryview) -> tuple[int, os.stat_result]:
            check(path)
            return read_into(path, memory)

        def cat_file(_: object, path: str, start: int | None = None, end: int | None = None, **__: object) -> bytes:
            check(path)
            with real_open(path, "rb") as file:
                return file.read()[start:end]

        monkeypatch.setattr("crrg.storage.read_file", read_file)
        monkeypatch.setattr("crrg.storage.read_file_into", read_file_into)
        monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.cat_file", cat_file)

    return refuse
