"""The file of ``crrg outcomes``: whole or not at all, and an earlier one stays where a new one cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from crrg import local_files
from crrg.errors import ConfigError, StorageError
from crrg.local_files import DISK_FULL
from crrg.operations.night.outcomes import check_csv, write_csv


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    path = tmp_path / "outcomes.csv"
    path.write_text("earlier")
    path.chmod(0o640)
    return path


def test_a_full_disk_leaves_the_earlier_file(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(local_files.os, "fsync", full)
    with pytest.raises(StorageError, match=DISK_FULL):
        write_csv(earlier, "new")
    assert earlier.read_text() == "earlier"
    assert os.listdir(earlier.parent) == ["outcomes.csv"]


def test_an_earlier_file_is_replaced_for_the_same_readers_also_behind_a_link(earlier: Path) -> None:
    link = earlier.with_name("link.csv")
    link.symlink_to(earlier)
    write_csv(link, "file\nba\udcffd.png\n")
    assert link.is_symlink()
    assert earlier.read_text() == "file\nba\\udcffd.png\n"
    assert earlier.stat().st_mode & 0o777 == 0o640


def test_what_is_no_regular_file_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_csv(pipe, "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)


@pytest.mark.parametrize("name", ["missing/outcomes.csv", "."])
def test_a_place_that_is_not_there_is_told_before_an_inbox_is_listed(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name a file in an existing folder"):
        check_csv(tmp_path / name)
    assert os.listdir(tmp_path) == []
