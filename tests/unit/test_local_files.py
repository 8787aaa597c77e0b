"""Files of a root that is a folder: whole or absent, and a full disk by its name."""

from __future__ import annotations

import dataclasses
import errno
import os
import traceback
from pathlib import Path

import pytest

from crrg import local_files
from crrg.errors import ConfigError, StorageError
from crrg.local_files import DISK_FULL, check_folder, free_bytes, full_disk_named, write_file
from crrg.storage import FOREIGN_OBJECT, Storage

UID = "1.2.3"


def failing(number: int):
    def fail(what: object) -> None:
        raise OSError(number, os.strerror(number), what)

    return fail


def test_full_disk_is_named_and_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "key"
    write_file(path, b"old", "key", replace=True)
    monkeypatch.setattr(local_files.os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(StorageError, match=DISK_FULL) as caught:
        write_file(path, b"new", "key", replace=True)
    assert (caught.value.code, caught.value.retryable) == (DISK_FULL, False)
    assert [each.name for each in path.parent.iterdir()] == ["key"]
    assert path.read_bytes() == b"old"


def test_other_faults_of_a_disk_are_not_called_full(tmp_path, monkeypatch):
    monkeypatch.setattr(local_files.os, "fsync", failing(errno.EIO))
    with pytest.raises(StorageError, match="cannot write") as caught:
        write_file(tmp_path / "key", b"new", "key", replace=True)
    assert caught.value.code == ""
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_of_temporary_files_is_named_and_other_faults_pass():
    with pytest.raises(StorageError, match=r"dataset demo: DISK\.FULL"), full_disk_named("dataset demo"):
        raise OSError(errno.EDQUOT, "quota exceeded")
    with pytest.raises(OSError, match="unreadable"), full_disk_named("dataset demo"):
        raise OSError(errno.EIO, "unreadable")


def test_room_is_told_for_folders_that_are_yet_to_be_made(tmp_path):
    assert free_bytes(str(tmp_path / "a" / "b")) == pytest.approx(free_bytes(str(tmp_path)), rel=0.05)


def test_discarding_says_whether_the_object_is_gone(tmp_path, monkeypatch):
    storage = Storage(str(tmp_path))
    storage.put("key", b"data")
    assert storage.discard("key")
    assert storage.discard("key")

    def denied(self: Storage, key: str) -> None:
        raise StorageError("denied", key)

    monkeypatch.setattr(Storage, "delete", denied)
    assert not storage.discard("key")


def test_missing_folder_is_an_empty_listing_and_a_broken_one_is_not(tmp_path):
    storage = Storage(str(tmp_path / "root"))
    assert (storage.list_objects("none"), storage.list_folder("none")) == ([], [])
    (tmp_path / "root").mkdir()
    Path(storage.url("one")).write_bytes(b"1")
    assert storage.list_folder("") == ["one"]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EACCES, "denied"), (errno.EIO, "check the disk"), (errno.ENOENT, "")]
)
def test_folder_that_cannot_be_read_is_no_empty_folder(tmp_path, monkeypatch, number, words):
    storage = Storage(str(tmp_path))
    for key in ("a/1.png", "b/c/2.png"):
        storage.put(key, b"1")
    scandir = os.scandir

    def scan(path: str):
        if path.endswith("/c"):
            raise OSError(number, os.strerror(number), path)
        return scandir(path)

    monkeypatch.setattr(local_files.os, "scandir", scan)
    if not words:
        assert [each.key for each in storage.list_objects()] == ["a/1.png"], "removed meanwhile"
        return
    with pytest.raises(StorageError, match=words):
        storage.list_objects()


def test_only_our_own_temporary_files_are_not_listed(tmp_path):
    storage = Storage(str(tmp_path / "nightly.tmp-7" / "root"))
    for name in ("film.tmp-1.png", "x.tmp-" + "0" * 31, "film.png.tmp-" + "0" * 32):
        storage.put("in.tmp-2/placeholder", b"")
        Path(storage.url(f"in.tmp-2/{name}")).write_bytes(b"1")
    expected = ["film.tmp-1.png", "placeholder", "x.tmp-" + "0" * 31]
    assert [each.key for each in storage.list_objects()] == [f"in.tmp-2/{name}" for name in expected]
    assert storage.list_folder("in.tmp-2") == expected
    assert storage.list_folder() == ["in.tmp-2"]


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("name", ["taken/table", "taken/deep/table"])
def test_a_file_in_place_of_a_folder_is_said_and_stays(tmp_path: Path, name: str, replace: bool) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageError, match="table: cannot write: "):
        write_file(tmp_path / name, b"x", "table", replace=replace)
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_folder_that_may_not_be_read_is_about_its_permissions_and_about_no_object(tmp_path, monkeypatch):
    root = Storage(str(tmp_path)).without_names()
    monkeypatch.setattr("crrg.storage.find_files", failing(errno.EACCES))
    with pytest.raises(StorageError) as caught:
        root.list_objects()
    assert str(caught.value) == f"access to {tmp_path} is denied; check the owner and permissions of its folders"


@pytest.mark.parametrize("put", [Storage.put, Storage.put_if_absent])
@pytest.mark.parametrize("fault", ["full", "denied", "a file"])
def test_a_folder_without_names_tells_no_name_of_what_it_cannot_write(tmp_path, monkeypatch, put, fault):
    root = Storage(str(tmp_path)).without_names()
    if fault == "a file":
        (tmp_path / UID).write_text("a file")
    else:
        monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC if fault == "full" else errno.EACCES))
    with pytest.raises(StorageError) as caught:
        put(root, f"{UID}/4.5.dcm", b"x")
    assert caught.value.code == (DISK_FULL if fault == "full" else "")
    assert ("are free in " + str(tmp_path) + ";" in str(caught.value)) == (fault == "full")
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__cause__)
    assert UID not in told
    assert FOREIGN_OBJECT in told


def test_a_folder_without_names_tells_none_whatever_is_asked_of_it(tmp_path, monkeypatch):
    root = Storage(str(tmp_path)).without_names()
    root.put(f"{UID}/4.5.dcm", b"x")
    root.put(f"{UID}/6/a", b"x")
    (stored,) = (each for each in root.list_objects() if each.key.endswith("dcm"))
    asked = {
        "get": lambda: root.get(f"{UID}/none"),
        "digest": lambda: root.get_verified(stored.key, "0"),
        "other bytes": lambda: root.put_if_absent(stored.key, b"y"),
        "delete": lambda: root.delete(f"{UID}/6"),
        "list": lambda: root.list_objects(f"{UID}/4.5.dcm"),
        "list folder": lambda: root.list_folder(UID),
        "exists": lambda: root.exists(UID * 100),
        "piece": lambda: root.get_range(f"{UID}/6", 0, 1),
        "version": lambda: root.get_unchanged(dataclasses.replace(stored, size=9)),
    }
    broken = failing(errno.EIO)
    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.ls", lambda _, path, **__: broken(path))
    for name, ask in asked.items():
        told = ""
        try:
            ask()
        except StorageError as error:
            told = "".join(traceback.format_exception(error, limit=0)) + repr(error.__cause__)
            assert FOREIGN_OBJECT in told, name
        assert UID not in told, name
        assert told or name == "exists", name


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_file_is_no_folder_however_it_is_named(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match="root: this is a file"):
        check_folder(f"{scheme}{tmp_path}/taken", "root")
    check_folder(f"{scheme}{tmp_path}", "root")
