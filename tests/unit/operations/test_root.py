"""Who may read what is written under a root on a disk."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from crrg.errors import ConfigError, StorageError
from crrg.operations.root import make_demo_root, open_root, overlap
from crrg.storage import Storage
from tests.support.keys import KEY


@pytest.fixture(autouse=True)
def usual_limits() -> Iterator[None]:
    before, (core, hard) = os.umask(0o022), resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (core, hard))
    os.umask(before)


def test_what_is_written_under_a_root_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_ROOT", str(tmp_path / "root"))
    storage, _ = open_root()
    storage.put("results/night=2026-01-01/a.json", b"{}")
    storage.put_if_absent("audit/a.json", b"{}")
    found = list((tmp_path / "root").rglob("*"))
    assert len(found) == 5
    assert {path.stat().st_mode & 0o077 for path in found} == {0}
    with tempfile.TemporaryDirectory() as folder:
        assert Path(folder).stat().st_mode & 0o077 == 0


def test_so_is_a_root_that_is_made_before_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    monkeypatch.setenv("CRRG_ROOT", str(root))
    monkeypatch.delenv("CRRG_HMAC_KEY", raising=False)
    make_demo_root()
    found = [root, *root.rglob("*")]
    assert len(found) == 2
    assert [path for path in found if path.stat().st_mode & 0o077] == []


def test_a_demo_on_a_bucket_says_at_once_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_ROOT", "s3://bucket/demo")
    both = "needs CRRG_HMAC_KEY and MLFLOW_TRACKING_URI; set that, or give a folder"
    with pytest.raises(ConfigError, match=both):
        make_demo_root()
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    with pytest.raises(ConfigError, match="needs MLFLOW_TRACKING_URI;"):
        make_demo_root()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    make_demo_root()


def test_a_crash_leaves_no_memory_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_ROOT", str(tmp_path / "root"))
    open_root()
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0


def test_a_demo_on_a_full_disk_says_so_and_leaves_no_half_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("CRRG_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("CRRG_HMAC_KEY", raising=False)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=r"DISK\.FULL"):
        make_demo_root()
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize(("inner", "is_nested"), [("", True), ("backup", True), ("../beside", False)])
def test_places_overlap_also_by_a_link(inner: str, is_nested: bool, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to("root")
    root, place = Storage(str(tmp_path / "root")), Storage(f"{tmp_path / 'link'}/{inner}")
    assert overlap(root, place) is overlap(place, root) is is_nested


@pytest.mark.parametrize(
    ("place", "is_nested"), [("b/root", True), ("b/root/in/", True), ("b", True), ("b/root2", False)]
)
def test_places_in_a_bucket_overlap_by_their_prefix(place: str, is_nested: bool, tmp_path: Path) -> None:
    root, other = Storage("s3://b/root"), Storage(f"s3://{place}")
    assert overlap(root, other) is overlap(other, root) is is_nested
    assert not overlap(other, Storage(str(tmp_path)))
