"""An inbox and a root within each other: a night would read what nights wrote, or the root would hold names."""

from __future__ import annotations

from pathlib import Path

import pytest

from crrg.errors import ConfigError
from crrg.operations import night_feed
from crrg.storage import Storage
from tests.support.drawn_night import StandInDrafter, fill_inbox, run_test_night


@pytest.mark.parametrize(("inbox", "root"), [("data", "data/crrg-data"), ("data/inbox", "data"), ("data", "data")])
def test_inbox_and_root_must_lie_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inbox: str, root: str):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    taken = Storage(str(tmp_path / inbox))
    fill_inbox(taken, 1)
    before = taken.list_objects()
    with pytest.raises(ConfigError, match="must not lie within each other"):
        run_test_night(taken, Storage(str(tmp_path / root)), StandInDrafter(), num_workers=0)
    assert taken.list_objects() == before


def test_places_whose_names_begin_alike_lie_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    inbox = Storage(str(tmp_path / "data-inbox"))
    fill_inbox(inbox, 1)
    summary = run_test_night(inbox, Storage(str(tmp_path / "data")), StandInDrafter(), num_workers=0)
    assert summary.status == "committed"
