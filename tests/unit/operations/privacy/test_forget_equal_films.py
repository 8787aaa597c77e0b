"""A film that was refused since a forgotten patient's has the same pixels is drafted after the removal."""

from __future__ import annotations

import os

import pytest

from crrg.ledger.ledger import ledger_rows
from crrg.ledger.manifest import read_manifests
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.operations.privacy.forget import forget
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, run_test_night
from tests.support.forgetting import SETTINGS, cut_after_a_night, decode_here


class Place:
    """A film that was filed under P1, and again under P2 and P3; another film of P4."""

    def __init__(self, folder) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        for number in (1, 2, 3):
            self.put(f"{number}.dcm", 5, number)
        self.put("4.dcm", 6, 4)
        assert self.night("2026-11-20").reasons == {"DUPLICATE.PIXELS": 2}

    def put(self, key, seed, number):
        self.inbox.put(key, dicom_bytes(seed, study=str(number), instance=f"{number}1", patient=f"P{number}"))

    def night(self, date):
        return run_test_night(self.inbox, self.root, StandInDrafter(), date=date, num_workers=0)

    def forget(self, number):
        return forget([PSEUDONYMS.patient(f"P{number}")], self.root, SETTINGS, remove=True)

    def outcomes(self):
        found = inbox_outcomes(self.inbox.root, self.root, PSEUDONYMS)
        return {each.file.removesuffix(".dcm"): each.reason or each.outcome for each in found}


@pytest.fixture
def place(tmp_path, monkeypatch):
    decode_here(monkeypatch)
    return Place(tmp_path)


def test_an_equal_film_of_another_patient_is_drafted_after_the_removal(place):
    place.forget(1)
    assert place.outcomes() == {"1": "IDENTITY.FORGOTTEN", "2": "pending", "3": "pending", "4": "accept"}
    assert check_nights(place.root).is_good
    night = place.night("2026-11-21")
    assert (night.num_accepted, night.reasons) == (1, {"DUPLICATE.PIXELS": 1})
    assert place.outcomes() == {"1": "IDENTITY.FORGOTTEN", "2": "accept", "3": "DUPLICATE.PIXELS", "4": "accept"}
    assert check_nights(place.root).is_good


def test_an_equal_film_whose_draft_stays_goes_on_being_refused(place):
    place.forget(4)
    place.forget(2)
    expected = {"1": "accept", "2": "IDENTITY.FORGOTTEN", "3": "DUPLICATE.PIXELS", "4": "IDENTITY.FORGOTTEN"}
    assert place.outcomes() == expected


@pytest.mark.parametrize("date", ["2026-11-21", "2026-11-19"])
def test_a_night_that_only_repeated_the_refusal_frees_the_film_too_also_after_a_cut(place, date):
    os.utime(f"{place.inbox.root}/2.dcm", (1, 1))
    # one of an earlier date may run later
    place.night(date)
    rows = [row for manifest in read_manifests(place.root) for row in ledger_rows(place.root, manifest)]
    assert [row.date for row in rows if row.reason == "DUPLICATE.PIXELS" and row.is_carried] == [date]
    cut_after_a_night(lambda: place.forget(1))
    place.forget(1)
    assert place.outcomes() == {"1": "IDENTITY.FORGOTTEN", "2": "pending", "3": "pending", "4": "accept"}
    assert place.night("2026-11-22").num_accepted == 1
