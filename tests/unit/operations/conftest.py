"""What tests of nights share: an empty inbox, an empty root, and decoding in the test's own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from crrg.operations.night import feed as night_feed
from crrg.storage import Storage


@pytest.fixture
def decode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no decoder processes."""
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)


@pytest.fixture
def inbox(tmp_path: Path) -> Storage:
    """Return an inbox without objects."""
    (tmp_path / "inbox").mkdir()
    return Storage(str(tmp_path / "inbox"))


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    """Return a root without objects."""
    return Storage(str(tmp_path / "root"))
