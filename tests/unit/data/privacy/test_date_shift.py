from __future__ import annotations

import datetime
import itertools

import pytest

from crrg.data.privacy.deidentify import MAX_SHIFT_DAYS, Pseudonyms
from crrg.errors import DataError
from tests.support.keys import KEY

PSEUDONYMS = Pseudonyms(KEY.encode())
FIRST = datetime.date(2019, 12, 30)


def shift_days(patient: str, pseudonyms: Pseudonyms = PSEUDONYMS, site: str = "") -> int:
    return (FIRST - pseudonyms.shift_date(FIRST, patient, site)).days


def test_dates_of_one_person_keep_order_and_distance():
    days = [FIRST, datetime.date(2020, 2, 28), datetime.date(2020, 3, 1), datetime.date(2024, 1, 1)]
    shifted = [PSEUDONYMS.shift_date(day, "P-7") for day in days]
    assert [b - a for a, b in itertools.pairwise(shifted)] == [b - a for a, b in itertools.pairwise(days)]
    assert all(new < old for new, old in zip(shifted, days, strict=True))


def test_people_sites_and_keys_have_shifts_of_their_own():
    shifts = [shift_days(f"P-{number}") for number in range(2000)]
    assert 1 <= min(shifts) <= 10
    assert MAX_SHIFT_DAYS - 10 <= max(shifts) <= MAX_SHIFT_DAYS
    assert len(set(shifts)) > 600
    assert shift_days("P-7") == shift_days("P-7")
    others = {shift_days("P-7"), shift_days("P-7", site="b"), shift_days("P-7", Pseudonyms(b"j" * 32))}
    assert len(others) == 3


def test_a_date_at_the_beginning_of_the_calendar():
    with pytest.raises(DataError) as caught:
        PSEUDONYMS.shift_date(datetime.date.min, "P-7")
    assert caught.value.code == "PARSE.DATE"
