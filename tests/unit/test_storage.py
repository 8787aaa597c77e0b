"""Storage on a local root: atomic writes, put-if-absent, listings, digests."""

from __future__ import annotations

import copy
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from crrg.errors import Conflict, DigestMismatch, StorageError
from crrg.storage import Storage, canonical_json, hash_json


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def test_put_then_get_returns_the_bytes(storage: Storage) -> None:
    storage.put("a/b.bin", b"one")
    storage.put("a/b.bin", b"two")
    assert storage.get("a/b.bin") == b"two"


def test_missing_object_is_a_named_error(storage: Storage) -> None:
    with pytest.raises(StorageError, match="no such object"):
        storage.get("nothing")


def test_put_if_absent_refuses_other_bytes_and_accepts_its_own(storage: Storage) -> None:
    storage.put_if_absent("k", b"first")
    storage.put_if_absent("k", b"first")
    with pytest.raises(Conflict):
        storage.put_if_absent("k", b"second")
    assert storage.get("k") == b"first"


def test_losing_to_a_writer_who_removed_its_object_again_is_losing(storage: Storage, monkeypatch) -> None:
    storage.put("k", b"first")
    get = Storage.get

    def get_after_removal(self: Storage, key: str) -> bytes:
        self.delete(key)
        return get(self, key)

    monkeypatch.setattr(Storage, "get", get_after_removal)
    with pytest.raises(Conflict, match="another writer was first"):
        storage.put_if_absent("k", b"second")
    storage.put_if_absent("k", b"second")


def test_an_object_that_may_not_be_there_is_none_only_where_the_store_says_so(storage: Storage, monkeypatch) -> None:
    assert storage.get_if_there("k") is None
    storage.put("k", b"1")
    assert storage.get_if_there("k") == b"1"

    def denied(self: Storage, key: str) -> bytes:
        raise StorageError("denied", key)

    monkeypatch.setattr(Storage, "get", denied)
    with pytest.raises(StorageError, match="denied"):
        storage.get_if_there("k")


def test_of_many_racing_writers_one_wins(storage: Storage) -> None:
    def race(number: int) -> bool:
        try:
            storage.put_if_absent("lease", str(number).encode())
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(race, range(32)))
    assert sum(outcomes) == 1


def test_listing_is_sorted_relative_and_skips_links(storage: Storage) -> None:
    for key in ("p/b", "p/a/c", "q/x"):
        storage.put(key, b"12")
    Path(storage.url("p/link")).symlink_to(storage.url("q/x"))
    assert [(item.key, item.size) for item in storage.list_objects("p")] == [("p/a/c", 2), ("p/b", 2)]
    assert storage.list_objects("none") == []


@pytest.mark.parametrize("into_memory", [False, True])
def test_a_link_that_took_the_place_of_a_listed_file_is_not_followed(storage: Storage, into_memory: bool) -> None:
    storage.put("in/film", b"film")
    storage.put("secret", b"user")
    (stored,) = storage.list_objects("in")
    film, secret = Path(storage.url("in/film")), Path(storage.url("secret"))
    status = film.stat()
    os.utime(secret, ns=(status.st_atime_ns, status.st_mtime_ns))
    film.unlink()
    film.symlink_to(secret)
    memory = bytearray(4)
    read = partial(storage.read_unchanged, memory=memoryview(memory)) if into_memory else storage.get_unchanged
    with pytest.raises(StorageError, match="no such object"):
        read(stored)
    assert bytes(memory) == bytes(4)


def test_no_temporary_file_is_left(storage: Storage) -> None:
    storage.put_if_absent("x", b"1")
    with pytest.raises(Conflict):
        storage.put_if_absent("x", b"2")
    assert [path.name for path in Path(storage.root).iterdir()] == ["x"]


def test_verified_read_refuses_changed_bytes(storage: Storage) -> None:
    storage.put("x", b"good")
    digest = hashlib.sha256(b"good").hexdigest()
    assert storage.get_verified("x", digest) == b"good"
    storage.put("x", b"bad")
    with pytest.raises(DigestMismatch):
        storage.get_verified("x", digest)


def test_a_storage_travels_to_another_process_without_its_connection(storage: Storage) -> None:
    storage.put("x", b"1")
    clone = copy.copy(storage)
    assert clone._fs is None
    assert clone.get("x") == b"1"


def test_child_and_delete(storage: Storage) -> None:
    storage.child("a").put("b", b"1")
    storage.delete("a/b")
    storage.delete("a/b")
    assert not storage.exists("a/b")


def test_canonical_json_does_not_depend_on_key_order() -> None:
    assert canonical_json({"b": 1, "a": 2}) == b'{"a":2,"b":1}'
    assert hash_json({"b": 1, "a": 2}) == hash_json({"a": 2, "b": 1})
