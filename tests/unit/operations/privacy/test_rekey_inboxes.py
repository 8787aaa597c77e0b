"""A root whose nights read several inboxes changes its secret in one go, with all of them given."""

from __future__ import annotations

import pytest

from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import ConfigError
from crrg.ledger.manifest import read_manifests
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.nightly import run_night
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.operations.privacy.rekey import rekey
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, dicom_bytes, night_config
from tests.support.forgetting import decode_here, found_of
from tests.support.keys import NEW_KEY

NEW = Pseudonyms(NEW_KEY.encode())


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Two inboxes that use one key for two films, and a root with a night of each."""
    decode_here(monkeypatch)
    inboxes = [Storage(str(tmp_path / name)) for name in ("first", "second")]
    root = Storage(str(tmp_path / "root"))
    for number, inbox in enumerate(inboxes, start=1):
        inbox.put("film.dcm", dicom_bytes(number, study=str(number), instance=str(number), patient=f"P{number}"))
        inbox.put("cut.dcm", dicom_bytes(number)[:900])
        assert night(inbox, root, f"2026-11-2{number}", PSEUDONYMS).num_accepted == 1
    return inboxes, root


def night(inbox, root, date, pseudonyms):
    return run_night(night_config(inbox, date=date, num_workers=0), root, BUNDLE, pseudonyms, StandInDrafter)


def change(inboxes, root, **changes):
    return rekey([inbox.root for inbox in inboxes], root, PSEUDONYMS, NEW, do=True, **changes)


def test_nights_of_all_inboxes_get_new_ids(places):
    inboxes, root = places
    for some in (inboxes[:1], inboxes[1:]):
        with pytest.raises(ConfigError, match=r"1 objects that nights read.*; give every inbox that nights read"):
            change(some, root)
    done = change(inboxes, root)
    assert (done.num_nights, done.num_missing, done.is_done) == (2, 0, True)
    assert found_of(root, {PSEUDONYMS.patient("P1"), PSEUDONYMS.instance("2.25.9.2")}) == []
    ids = [NEW.object_key(inbox.root, "inbox") for inbox in inboxes]
    assert [manifest.inbox_id for manifest in read_manifests(root)] == ids
    assert check_nights(root).is_good
    for number, inbox in enumerate(inboxes, start=3):
        outcomes = {each.file: each.outcome for each in inbox_outcomes(inbox.root, root, NEW)}
        assert outcomes == {"film.dcm": "accept", "cut.dcm": "quarantine"}
        assert night(inbox, root, f"2026-11-2{number}", NEW).status == "nothing_new"


def test_an_inbox_that_has_another_address_now_still_tells_the_ids(places, tmp_path):
    inboxes, root = places
    (tmp_path / "second").rename(tmp_path / "moved")
    done = change([inboxes[0], Storage(str(tmp_path / "moved"))], root)
    assert (done.num_missing, done.is_done) == (0, True)
