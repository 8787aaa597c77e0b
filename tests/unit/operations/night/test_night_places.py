"""Where an inbox may lie: beside the root or under it, but not so that a night would read what nights wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from crrg.errors import ConfigError
from crrg.operations.night import feed as night_feed
from crrg.storage import Storage
from tests.support.drawn_night import StandInDrafter, fill_inbox, run_test_night


@pytest.mark.parametrize(("inbox", "root"), [("data", "data/crrg-data"), ("data", "data")])
def test_an_inbox_that_holds_the_root_is_refused(tmp_path: Path, inbox: str, root: str):
    taken = Storage(str(tmp_path / inbox))
    fill_inbox(taken, 1)
    before = taken.list_objects()
    with pytest.raises(ConfigError, match="it contains the root"):
        run_test_night(taken, Storage(str(tmp_path / root)), StandInDrafter(), num_workers=0)
    assert taken.list_objects() == before


@pytest.mark.parametrize("inbox", ["data-inbox", "data/inbox"])
def test_an_inbox_beside_or_under_the_root_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inbox: str):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    taken = Storage(str(tmp_path / inbox))
    fill_inbox(taken, 1)
    assert run_test_night(taken, Storage(str(tmp_path / "data")), StandInDrafter(), num_workers=0).status == "committed"
