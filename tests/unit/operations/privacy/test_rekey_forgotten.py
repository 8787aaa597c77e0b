"""Forgotten patients of whom a change of the secret finds no film: counted, still refused, and carried over later."""

from __future__ import annotations

import pytest

from crrg.data.privacy.deidentify import Pseudonyms
from crrg.operations.night.nightly import run_night
from crrg.operations.privacy.forget import forget
from crrg.operations.privacy.rekey import rekey
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, dicom_bytes, night_config
from tests.support.forgetting import SETTINGS, decode_here
from tests.support.keys import KEY, NEW_KEY

NEW = Pseudonyms(NEW_KEY.encode())
BOTH = Pseudonyms(NEW_KEY.encode(), Pseudonyms(KEY.encode()))
THIRD = Pseudonyms(NEW_KEY[::-1].encode())


class Place:
    """An inbox and a root with a night, from which P1 and P2 were removed; of P2 no film is left."""

    def __init__(self, folder) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        for number in (1, 2, 3):
            self.put(number, number)
        self.night("2026-11-20", PSEUDONYMS)
        forget([PSEUDONYMS.patient(f"P{number}") for number in (1, 2)], self.root, SETTINGS, remove=True)
        self.inbox.delete("2.dcm")

    def put(self, name, number):
        film = dicom_bytes(name, study=str(name), instance=str(name), patient=f"P{number}")
        self.inbox.put(f"{name}.dcm", film)

    def night(self, date, pseudonyms):
        config = night_config(self.inbox, date=date, num_workers=0)
        return run_night(config, self.root, BUNDLE, pseudonyms, StandInDrafter)

    def num_lost(self, old, new):
        return rekey(self.inbox.root, self.root, old, new, drop_missing=True, do=True).num_lost_tombstones


@pytest.fixture
def place(tmp_path, monkeypatch):
    decode_here(monkeypatch)
    return Place(tmp_path)


def test_only_who_was_forgotten_under_the_old_secret_and_cannot_be_carried_over_is_counted(place):
    assert place.num_lost(PSEUDONYMS, NEW) == 1
    assert place.num_lost(PSEUDONYMS, NEW) == 1
    # P1 has a follower; whom the first change lost, the second does not lose again
    assert place.num_lost(NEW, THIRD) == 0
    assert place.num_lost(NEW, THIRD) == 0


def test_a_night_that_still_has_the_old_secret_refuses_who_was_not_carried_over(place):
    place.num_lost(PSEUDONYMS, NEW)
    place.put(4, 2)
    assert place.night("2026-11-21", BOTH).reasons == {"IDENTITY.FORGOTTEN": 1}
    # the film is there now, so that a further run carries its patient over
    assert place.num_lost(PSEUDONYMS, NEW) == 0
    place.put(5, 2)
    place.put(6, 3)
    night = place.night("2026-11-22", NEW)
    assert (night.num_accepted, night.reasons) == (1, {"IDENTITY.FORGOTTEN": 1})
