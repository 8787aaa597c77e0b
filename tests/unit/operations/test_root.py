"""Who may read what is written under a root on a disk."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from crrg.operations.root import make_demo_root, open_root


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


def test_a_crash_leaves_no_memory_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_ROOT", str(tmp_path / "root"))
    open_root()
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
