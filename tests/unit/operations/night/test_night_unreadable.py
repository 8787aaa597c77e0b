"""An object that the inbox does not give out is refused; an inbox that gives out nothing stops the night."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from crrg.data.decoding.limits import InputLimits
from crrg.errors import StorageError
from crrg.ledger.ledger import read_ledger
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, png_bytes, run_test_night
from tests.support.store_hooks import Refuse, before_reading, refusing


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    storage = Storage(str(tmp_path / "inbox"))
    for number in range(4):
        storage.put(f"{number}.png", png_bytes(number))
    storage.put("study/a.dcm", dicom_bytes(10, study="1", instance="11"))
    storage.put("study/b.dcm", dicom_bytes(11, study="1", instance="12"))
    return storage


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def night(inbox: Storage, root: Storage, date: str = "2026-11-20"):
    return run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=date)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch, inbox: Storage) -> Refuse:
    return refusing(monkeypatch, inbox)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_one_study_that_is_not_given_out_stops_no_night(inbox, root, fail, number):
    study = ["study/a.dcm", "study/b.dcm"]
    fail(number, [*study, "0.png"])
    summary = night(inbox, root)
    assert (summary.num_accepted, summary.reasons) == (3, {"CHANGED.UNREADABLE": 3})
    assert night(inbox, root).status == "nothing_new"
    assert {each.file: each.outcome for each in inbox_outcomes(inbox.root, root, PSEUDONYMS)} == {
        **{f"{number}.png": "accept" for number in (1, 2, 3)},
        **dict.fromkeys(("0.png", *study), "quarantine"),
    }
    fail(number, study)
    second = night(inbox, root, "2026-11-21")
    assert (second.num_accepted, second.reasons) == (1, {"CHANGED.UNREADABLE": 2})
    assert night(inbox, root, "2026-11-22").reasons == {"CHANGED.UNREADABLE": 2}
    assert night(inbox, root, "2026-11-23").status == "nothing_new"
    assert check_nights(root).is_good


def test_header_that_is_not_given_out_stops_no_planning(inbox, root, fail):
    for stored in inbox.list_objects():
        os.utime(inbox.url(stored.key), (time.time() - 600,) * 2)
    inbox.put("young.dcm", dicom_bytes(12, study="2", instance="21"))
    fail(errno.EIO, ["study/a.dcm"])
    summary = run_test_night(inbox, root, StandInDrafter(), num_workers=0, settle_s=300)
    assert (summary.num_accepted, summary.num_pending, summary.reasons) == (5, 1, {"CHANGED.UNREADABLE": 1})


def test_what_is_given_out_later_is_drafted(inbox, root, fail):
    fail(errno.EACCES, ["study/a.dcm"])
    assert night(inbox, root).num_accepted == 5
    fail(errno.EACCES, [])
    assert night(inbox, root, "2026-11-21").num_accepted == 1
    assert sum(1 for _ in read_manifests(root)) == 2
    assert read_ledger(root).find_draft(PSEUDONYMS.instance("2.25.9.11")) is not None
    assert check_nights(root).is_good


def test_inbox_that_gives_out_nothing_any_more_stops_the_night(inbox, root, fail, monkeypatch):
    denied: set[str] = set()
    fail(errno.EACCES, denied)
    before_reading(monkeypatch, lambda _: denied.update(each.key for each in inbox.list_objects()))
    with pytest.raises(StorageError, match="denied") as caught:
        night(inbox, root)
    assert "png" not in str(caught.value)
    assert read_manifests(root) == []


def test_inbox_that_gives_out_nothing_stops_the_night_before_any_work(inbox, root, fail):
    fail(errno.EACCES, [each.key for each in inbox.list_objects()])
    with pytest.raises(StorageError, match="denied"):
        night(inbox, root)
    assert root.list_objects("results") == []


def test_object_over_the_limit_is_refused_without_being_fetched(inbox, root, monkeypatch):
    with Path(inbox.url("huge.dcm")).open("wb") as file:
        file.truncate(InputLimits.max_file_bytes + 1)
    read: list[str] = []
    before_reading(monkeypatch, lambda stored: read.append(stored.key))
    assert night(inbox, root).reasons == {"LIMIT.FILE_SIZE": 1}
    assert len(read) == 6
    assert "huge.dcm" not in read
