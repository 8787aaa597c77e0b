"""A night that is frozen while it marks an older page, and wakes up after a later night did, takes nothing back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crrg.exports.superseded import read_superseded, superseded_script
from crrg.ledger.manifest import read_manifests
from crrg.ledger.tables import read_table
from crrg.operations.night import nightly, supersede
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.supersede import mark_superseded
from crrg.operations.upkeep.audit import verify_audit
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, run_test_night

FIRST, SECOND, THIRD, FOURTH = (f"2026-11-2{day}" for day in range(4))
BOTH = {PSEUDONYMS.instance("2.25.9.11"), PSEUDONYMS.instance("2.25.9.21")}

pytestmark = pytest.mark.usefixtures("decode_here")


def night(inbox: Storage, root: Storage, date: str) -> None:
    run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=date)


def put_film(inbox: Storage, study: int, number: int) -> None:
    name = f"{study}{number}"
    inbox.put(f"{study}/{number}.dcm", dicom_bytes(int(name), study=f"{study}", instance=name, patient=f"P{study}"))


def page_says(root: Storage) -> set[str]:
    (first,) = read_manifests(root, FIRST)
    return set(read_superseded(root.get(first.replaced_key)))


@pytest.fixture
def places(inbox: Storage, root: Storage) -> tuple[Storage, Storage]:
    """Two studies of one film each, drafted in the first night; of the one a second film has come since."""
    for study in (1, 2):
        put_film(inbox, study, 1)
    night(inbox, root, FIRST)
    put_film(inbox, 1, 2)
    return inbox, root


@pytest.mark.parametrize("step", ["put_study_marks", "write_audit", "commit_manifest", "put_marks"])
def test_marks_of_a_later_night_stay_or_are_made_again(places, monkeypatch, step):
    inbox, root = places
    real, pending = getattr(supersede, step), [1]

    def freeze(*given: object, **named: object) -> object:
        if pending:
            pending.clear()
            for stored in root.list_objects("leases"):
                os.utime(root.url(stored.key), (1_700_000_000,) * 2)
            put_film(inbox, 2, 2)
            night(inbox, root, THIRD)
            assert page_says(root) == BOTH
        return real(*given, **named)

    monkeypatch.setattr(supersede, step, freeze)
    night(inbox, root, SECOND)
    assert not pending
    # only one that was frozen between its own commit and its last step is not refused
    assert (page_says(root) == BOTH) is (step != "put_marks")
    night(inbox, root, FOURTH)
    assert page_says(root) == BOTH
    assert check_nights(root).is_good
    assert verify_audit(root).problems == ()
    assert mark_superseded(root) == 0


def test_a_night_that_is_frozen_right_after_its_commit_takes_back_nothing(places, monkeypatch):
    inbox, root = places
    real, pending = nightly.mark_superseded, [1]

    def freeze(*given: object) -> int:
        if pending:
            pending.clear()
            put_film(inbox, 2, 2)
            night(inbox, root, THIRD)
            assert page_says(root) == BOTH
        return real(*given)

    monkeypatch.setattr(nightly, "mark_superseded", freeze)
    night(inbox, root, SECOND)
    assert page_says(root) == BOTH
    (first,) = read_manifests(root, FIRST)
    (reports,) = (file for file in first.files if file.kind == "reports")
    assert None not in read_table(root, reports)["superseded_by"].to_pylist()
    assert mark_superseded(root) == 0


@pytest.mark.parametrize("said", [b"half", superseded_script({})], ids=["damaged", "behind"])
def test_a_page_that_does_not_say_what_was_committed_is_told_anew(places, said):
    inbox, root = places
    night(inbox, root, SECOND)
    before = page_says(root)
    (first,) = read_manifests(root, FIRST)
    root.put(first.replaced_key, said)
    assert not check_nights(root).is_good
    assert mark_superseded(root) == 1
    assert page_says(root) == before
    assert check_nights(root).is_good
    Path(root.url(first.replaced_key)).unlink()
    assert mark_superseded(root) == 1
    assert page_says(root) == before
