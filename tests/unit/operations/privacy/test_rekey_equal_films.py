"""A film that was refused since an equal one was drafted is new after a change of the secret that dropped the draft."""

from __future__ import annotations

import os

import pytest

from crrg.data.privacy.deidentify import Pseudonyms
from crrg.operations.night.nightly import run_night
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.operations.privacy.rekey import rekey
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, dicom_bytes, night_config
from tests.support.forgetting import cut_after_a_night, decode_here
from tests.support.keys import NEW_KEY

NEW = Pseudonyms(NEW_KEY.encode())


class Place:
    """A film that was filed under P1, and again under P2, which a later night met again; the first is gone now."""

    def __init__(self, folder, later) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        for number, seed in ((1, 5), (2, 5), (3, 6)):
            film = dicom_bytes(seed, study=str(number), instance=f"{number}1", patient=f"P{number}")
            self.inbox.put(f"{number}.dcm", film)
        self.night("2026-11-20", PSEUDONYMS)
        os.utime(f"{self.inbox.root}/2.dcm", (1, 1))
        assert self.night(later, PSEUDONYMS).reasons == {"DUPLICATE.PIXELS": 1}
        self.inbox.delete("1.dcm")

    def night(self, date, pseudonyms):
        return run_night(
            night_config(self.inbox, date=date, num_workers=0), self.root, BUNDLE, pseudonyms, StandInDrafter
        )

    def rekey(self):
        return rekey(self.inbox.root, self.root, PSEUDONYMS, NEW, drop_missing=True, do=True)

    def outcomes(self):
        found = inbox_outcomes(self.inbox.root, self.root, NEW)
        return {each.file.removesuffix(".dcm"): each.reason or each.outcome for each in found}


@pytest.mark.parametrize("later", ["2026-11-21", "2026-11-19"])
def test_a_night_that_only_repeated_the_refusal_frees_the_film_too_also_after_a_cut(tmp_path, monkeypatch, later):
    decode_here(monkeypatch)
    place = Place(tmp_path, later)
    cut_after_a_night(place.rekey)
    assert place.rekey().num_nights == 1
    assert place.outcomes() == {"2": "pending", "3": "accept"}
    assert place.night("2026-11-25", NEW).num_accepted == 1
