from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrg.data.dicom.study_words import StudyWords
from crrg.ledger.inventory import InboxObject, take_inventory
from crrg.ledger.ledger import Ledger
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night import settling as night_settling
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.operations.night.settling import take_settled
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, png_bytes, run_test_night

SETTLE_S = 300


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    return Storage(str(tmp_path / "inbox"))


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def put(inbox: Storage, key: str, data: bytes, age_s: float = 2 * SETTLE_S) -> None:
    inbox.put(key, data)
    age(inbox, key, age_s)


def age(inbox: Storage, key: str, age_s: float = 2 * SETTLE_S) -> None:
    os.utime(inbox.url(key), (time.time() - age_s,) * 2)


def night(inbox: Storage, root: Storage, **changes: object):
    return run_test_night(inbox, root, StandInDrafter(), num_workers=0, settle_s=SETTLE_S, **changes)


def outcomes(inbox: Storage, root: Storage) -> dict[str, str]:
    return {entry.file: entry.outcome for entry in inbox_outcomes(inbox.root, root, PSEUDONYMS)}


def heads_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []
    real = night_settling.find_study_words

    def find(inbox: Storage, key: str, size: int) -> StudyWords:
        read.append(key)
        return real(inbox, key, size)

    monkeypatch.setattr(night_settling, "find_study_words", find)
    return read


def test_a_study_waits_until_all_of_it_has_settled_and_is_then_drafted_once(inbox, root):
    put(inbox, "a/1.dcm", dicom_bytes(1, study="5", instance="51", view="AP"))
    put(inbox, "b/elsewhere.dcm", dicom_bytes(2, study="5", instance="52", view="PA"))
    put(inbox, "c/young.dcm", dicom_bytes(3, study="5", instance="53", view="AP"), age_s=10)
    put(inbox, "a/other.dcm", dicom_bytes(4, study="6", instance="61"))
    put(inbox, "a/film.png", png_bytes(5))
    first = night(inbox, root)
    assert (first.num_inputs, first.num_accepted, first.num_pending) == (5, 2, 3)
    assert {file for file, outcome in outcomes(inbox, root).items() if outcome == "pending"} == {
        "a/1.dcm", "b/elsewhere.dcm", "c/young.dcm"
    }  # fmt: skip
    age(inbox, "c/young.dcm")
    second = night(inbox, root, date="2026-11-21")
    assert (second.num_inputs, second.num_accepted, second.num_pending) == (3, 3, 0)
    assert all(not manifest.superseded for manifest in read_manifests(root))
    assert set(outcomes(inbox, root).values()) == {"accept"}


def test_a_night_whose_only_new_films_wait_has_nothing_to_do(inbox, root):
    put(inbox, "1.dcm", dicom_bytes(1, study="5", instance="51"))
    put(inbox, "2.dcm", dicom_bytes(2, study="5", instance="52"), age_s=10)
    summary = night(inbox, root)
    assert (summary.status, summary.num_pending) == ("nothing_new", 2)
    assert root.list_objects("results") == []


def test_headers_are_read_only_where_they_decide(inbox, root, monkeypatch):
    read = heads_read(monkeypatch)
    put(inbox, "1.dcm", dicom_bytes(1, study="5", instance="51"))
    assert night(inbox, root).num_accepted == 1
    put(inbox, "2.dcm", dicom_bytes(2, study="6", instance="61"))
    put(inbox, "young.png", png_bytes(3), age_s=10)
    put(inbox, "young-and-cut.dcm", dicom_bytes(4, study="6", instance="62")[:200], age_s=10)
    put(inbox, "young-and-empty.dcm", b"", age_s=10)
    second = night(inbox, root, date="2026-11-21")
    assert (second.num_accepted, second.num_pending) == (1, 3)
    assert sorted(read) == ["young-and-cut.dcm", "young-and-empty.dcm", "young.png"]


def test_a_known_film_that_is_young_holds_its_study_back(inbox, root):
    put(inbox, "1.dcm", dicom_bytes(1, study="5", instance="51"), age_s=10)
    run_test_night(inbox, root, StandInDrafter(), num_workers=0, settle_s=0)
    put(inbox, "2.dcm", dicom_bytes(2, study="5", instance="52"))
    assert night(inbox, root, date="2026-11-21").num_pending == 1


def test_a_full_night_takes_what_need_not_wait(inbox, root):
    put(inbox, "1.dcm", dicom_bytes(1, study="5", instance="51"))
    put(inbox, "2.dcm", dicom_bytes(2, study="5", instance="52"), age_s=10)
    for number in (3, 4):
        put(inbox, f"{number}.dcm", dicom_bytes(number, study=f"{number}", instance=f"{number}1"))
    summary = night(inbox, root, limit=1)
    assert (summary.num_accepted, summary.num_pending) == (1, 3)
    assert outcomes(inbox, root)["3.dcm"] == "accept"


def test_a_film_that_goes_while_headers_are_read_is_said_later(inbox, root, monkeypatch):
    put(inbox, "gone.dcm", dicom_bytes(1, study="5", instance="51"))
    put(inbox, "young.dcm", dicom_bytes(2, study="5", instance="52"), age_s=10)
    real = night_settling.find_study_words

    def find(inbox: Storage, key: str, size: int) -> StudyWords:
        if key == "gone.dcm":
            inbox.delete(key)
        return real(inbox, key, size)

    monkeypatch.setattr(night_settling, "find_study_words", find)
    assert night(inbox, root).reasons == {"CHANGED.GONE": 1}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), max_size=30), st.integers(0, 12))
def test_no_study_is_taken_in_part_because_of_its_age_and_nothing_is_lost(films, limit):
    """Every film has a study (0: none, a picture) and an age; those of 10 seconds and more have settled."""
    objects = [InboxObject(f"{place:02d}-{study}", f"h{place}", "v", 1, 100 - age) for place, (study, age) in
               enumerate(films)]  # fmt: skip

    def find(inbox: Storage, key: str, size: int) -> StudyWords:
        study = key[-1]
        return StudyWords(study_instance_uid=study if study != "0" else "")

    inventory = take_inventory(objects, Ledger([]), date="d", now_s=100, settle_s=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(night_settling, "find_study_words", find)
        taken = take_settled(inventory, objects, Storage("nowhere"), now_s=100, settle_s=10, limit=limit)
    assert sorted(each.key for each in (*taken.new, *taken.pending)) == sorted(each.key for each in objects)
    may = [each for each, (study, age) in zip(objects, films, strict=True)
           if age >= 10 and all(other >= 10 for its, other in films if its == study and study)]  # fmt: skip
    assert list(taken.new) == may[: limit or None]
