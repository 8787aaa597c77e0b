from __future__ import annotations

from crrg.data.dataset.split import LeakReport, SplitWish, settle_splits
from crrg.data.duplicates import Claim, judge_claims
from crrg.domain.study import Split

TRAIN, VALIDATION, TEST = Split.TRAIN, Split.VALIDATION, Split.TEST


def wish(patient: str, split: Split, group: str = "") -> SplitWish:
    return SplitWish(patient, group or patient, split)


def test_rows_that_agree_stay_where_they_are():
    settled, report = settle_splits([wish("a", TRAIN), wish("b", TEST), wish("a", TRAIN)], [])
    assert settled == [TRAIN, TEST, TRAIN]
    assert report == LeakReport(0, 0, 0)


def test_a_patient_whose_films_were_published_in_two_splits_is_held_out():
    settled, report = settle_splits([wish("a", TRAIN), wish("a", TEST), wish("a", TRAIN), wish("b", TRAIN)], [])
    assert settled == [TEST, TEST, TEST, TRAIN]
    assert report == LeakReport(0, 1, 2)


def test_patients_of_one_group_and_of_one_exposure_stay_together():
    wishes = [wish("a", TRAIN, "g"), wish("b", TRAIN, "g"), wish("c", VALIDATION), wish("d", TRAIN)]
    settled, report = settle_splits(wishes, [(1, 2)])
    assert settled == [VALIDATION, VALIDATION, VALIDATION, TRAIN]
    assert report == LeakReport(near_duplicate_pairs=1, groups_across_splits=1, rows_moved=2)


def test_two_films_of_one_patient_that_look_alike_are_no_leak():
    assert settle_splits([wish("a", TRAIN), wish("a", TRAIN)], [(0, 1)]) == ([TRAIN, TRAIN], LeakReport(0, 0, 0))


def claim(modified_s: float, key: str, instance: str, pixels: str) -> Claim:
    return Claim(modified_s, (0, key), instance, pixels.encode())


def test_of_equal_films_the_oldest_counts_and_the_key_decides_between_equal_times():
    losses = judge_claims([claim(9, "a", "i", "p"), claim(5, "z", "j", "p"), claim(5, "y", "k", "p")])
    assert {number: (loss.error.code, loss.winner) for number, loss in losses.items()} == {
        0: ("DUPLICATE.PIXELS", 2),
        1: ("DUPLICATE.PIXELS", 2),
    }


def test_one_identifier_with_two_pictures_is_a_conflict_of_the_later():
    losses = judge_claims([claim(2, "a", "i", "p"), claim(1, "b", "i", "q"), claim(3, "c", "i", "q")])
    assert {number: (loss.error.code, loss.winner) for number, loss in losses.items()} == {
        0: ("IDENTITY.CONFLICT", 1),
        2: ("DUPLICATE.PIXELS", 1),
    }


def test_the_pixels_of_a_film_that_was_refused_are_free():
    # the second conflicts with the first
    losses = judge_claims([claim(1, "a", "i", "p"), claim(2, "b", "i", "q"), claim(3, "c", "j", "q")])
    assert set(losses) == {1}


def test_the_identifier_of_a_film_that_was_refused_is_taken():
    # nobody knows whether "j" is the picture that the first shows, too, or that of the third
    losses = judge_claims([claim(1, "a", "i", "p"), claim(2, "b", "j", "p"), claim(3, "c", "j", "q")])
    assert {number: (loss.error.code, loss.winner) for number, loss in losses.items()} == {
        1: ("DUPLICATE.PIXELS", 0),
        2: ("IDENTITY.CONFLICT", 1),
    }
