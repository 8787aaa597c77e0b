"""Reports in ZIP files that are damaged, hostile, or broken off by their store."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pytest

from crrg.data.archives import members as members_module
from crrg.data.archives.members import Members
from crrg.errors import DataError, StorageError
from crrg.storage import Storage

REPORT = re.compile(r"(?:^|/)(?P<name>s\d+)\.txt$")


def packed(name: str = "files/s1.txt", packing: int = zipfile.ZIP_DEFLATED, num_bytes: int = 9) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        archive.writestr(name, b"a" * num_bytes)
    return file.getvalue()


def members(root: Path, data: bytes) -> Members:
    storage = Storage(str(root))
    storage.put("reports.zip", data)
    return Members(storage, REPORT, [], storage.list_objects(), 4096)


def _never(*_: object) -> None:
    raise AssertionError("a file of a ZIP was listed")


def test_a_packed_report_is_read_and_a_bomb_is_not(tmp_path: Path) -> None:
    assert members(tmp_path, packed()).read("s1") == b"a" * 9
    with pytest.raises(DataError) as refused:
        members(tmp_path, packed(num_bytes=2**22)).read("s1")
    assert refused.value.code == "LIMIT.FILE_SIZE"


def test_a_size_that_lies_does_not_open_the_door_to_a_bomb(tmp_path: Path) -> None:
    data = packed(num_bytes=2**22).replace((2**22).to_bytes(4, "little"), (9).to_bytes(4, "little"))
    with pytest.raises(DataError) as refused:
        members(tmp_path, data).read("s1")
    assert refused.value.code == "PARSE.ZIP"


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_packings_are_refused_unread(tmp_path: Path, packing: int) -> None:
    with pytest.raises(DataError, match="not compressed with deflate") as refused:
        members(tmp_path, packed(packing=packing)).read("s1")
    assert refused.value.code == "PARSE.ZIP"


def test_a_link_and_a_file_with_a_password_say_what_they_are(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("files/s1.txt")
    link.external_attr = 0o120777 << 16
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(link, "../../doe^jane/s2.txt")
    with pytest.raises(DataError, match="a link in place of a file") as refused:
        members(tmp_path, data.getvalue()).read("s1")
    assert refused.value.code == "PARSE.ZIP"
    locked = bytearray(packed())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(header) + offset] |= 1
    with pytest.raises(DataError, match="encrypted"):
        members(tmp_path, bytes(locked)).read("s1")


@pytest.mark.parametrize(("limit", "value"), [("MAX_MEMBERS", 2), ("MAX_DIRECTORY_BYTES", 100)])
def test_a_zip_of_more_files_than_memory_holds_is_refused_before_they_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for number in range(3):
            archive.writestr(f"files/s{number}.txt", "x")
    monkeypatch.setattr(members_module, limit, value)
    monkeypatch.setattr(zipfile, "ZipInfo", _never)
    with pytest.raises(DataError, match="pack only those of the collection") as refused:
        members(tmp_path, data.getvalue())
    assert refused.value.code == "LIMIT.ZIP"


def test_files_of_all_zips_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_module, "MAX_MEMBERS", 2)
    for number in range(2):
        (tmp_path / f"other{number}.zip").write_bytes(packed())
    with pytest.raises(DataError) as refused:
        members(tmp_path, packed())
    assert refused.value.code == "LIMIT.ZIP"


def test_a_name_that_is_no_text_is_a_damaged_zip(tmp_path: Path) -> None:
    data = packed("files/é/s1.txt").replace("é".encode(), b"\xc3(")
    with pytest.raises(DataError) as refused:
        members(tmp_path, data)
    assert refused.value.code == "PARSE.ZIP"


def test_a_store_that_breaks_off_is_said_without_the_names_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = members(tmp_path, packed())

    def broken(*_: object) -> None:
        raise OSError(5, "broken off", "/archive/doe^jane/s1.txt")

    monkeypatch.setattr(zipfile.ZipFile, "open", broken)
    with pytest.raises(StorageError, match="does not return a ZIP") as refused:
        found.read("s1")
    assert refused.value.retryable
    assert "jane" not in str(refused.value)
