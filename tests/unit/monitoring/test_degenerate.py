from __future__ import annotations

import math

import numpy as np
import pytest

from crrg.monitoring.degenerate import CHANCE, Habits, find_faults, is_looped, read_habits
from tests.support.made_population import NORMAL, texts_of

REPORTS = Habits(num=1000, alike=0.05, alike_against_labels=0.01, empty=0.0, looped=0.0, mean_words=30)
DRAFTS = Habits(num=240, alike=0.4, alike_against_labels=0.05, empty=0.02, looped=0.0, mean_words=20)
SIZES = [5, 10, 15, 20, 30, 60, 100, 200, 300]


def of_night(texts: list[str], labels: list[tuple[int, ...]]) -> tuple[str, ...]:
    return find_faults(read_habits(texts, labels), REPORTS, DRAFTS)


@pytest.mark.parametrize(
    ("text", "looped"),
    [
        (NORMAL, False),
        ("no no no no", True),
        ("There is no no no effusion.", False),
        ("of the lung of the lung of the lung of the lung", True),
        ("The lungs are clear. " * 3, True),
        ("The lungs are clear. The heart is normal. The lungs are clear.", False),
        ("Clear. Clear. Clear.", False),
        ("", False),
    ],
)
def test_loops(text, looped):
    assert is_looped(text) == looped


def test_habits_by_hand():
    found = read_habits(["A b c.", "a  B, c", "x y", ""], [(1, 0), (0, 0), (1, 1), (0, 0)])
    assert found == Habits(
        num=4, alike=0.5, alike_against_labels=0.25, against_labels=0.75, empty=0.25, looped=0.0, mean_words=8 / 3
    )
    assert read_habits([], []) == Habits()


@pytest.mark.parametrize("share_normal", [0.3, 0.8, 0.95])
def test_a_night_of_mostly_normal_films_is_good(share_normal):
    rng = np.random.default_rng(1)
    for _ in range(20):
        assert of_night(*texts_of(rng, 200, share_normal)) == ()


@pytest.mark.parametrize("num", SIZES)
def test_a_night_like_the_validation_films_is_good_at_any_size(num):
    rng = np.random.default_rng(num)
    drafts = read_habits(*texts_of(rng, 2000, 0.6))
    assert drafts.alike == pytest.approx(0.6, abs=0.05)
    for _ in range(50):
        assert find_faults(read_habits(*texts_of(rng, num, 0.6)), REPORTS, drafts) == ()


@pytest.mark.parametrize("num", SIZES)
@pytest.mark.parametrize("alike", [0.0, 0.4, 0.7])
def test_half_of_what_was_not_normal_may_be_and_raises_an_alarm_in_few_of_all_cases(num, alike):
    limit = alike + (1 - alike) / 2
    drafts = DRAFTS.model_copy(update={"alike": alike})
    night = {count: Habits(num=num, alike=count / num, mean_words=20) for count in range(num + 1)}
    refused = [count for count, habits in night.items() if find_faults(habits, None, drafts)]
    assert sum(math.comb(num, count) * limit**count * (1 - limit) ** (num - count) for count in refused) < CHANCE


@pytest.mark.parametrize(
    ("alike", "smallest"), [(0.05, 15), (0.4, 26), (0.6, 42), (0.8, 88), (1.0, 88)], ids=lambda value: f"{value:g}"
)
def test_one_text_for_all_is_noticed_from_a_size_on_that_validation_drafts_set(alike, smallest):
    drafts = DRAFTS.model_copy(update={"alike": alike})
    assert find_faults(read_habits([NORMAL] * (smallest - 1), [(0, 1)] * (smallest - 1)), REPORTS, drafts) == ()
    (fault,) = find_faults(read_habits([NORMAL] * smallest, [(0, 1)] * smallest), REPORTS, drafts)
    assert fault.startswith(f"100% of {smallest} drafts read the same, at most ")


@pytest.mark.parametrize("num", [26, 60, 100, 200, 300])
@pytest.mark.parametrize("differ", [0.0, 0.2, 0.4, 0.9])
def test_one_text_for_all_is_noticed_whatever_the_labels(num, differ):
    labels = [(place if place < differ * num else -1,) for place in range(num)]
    assert any("read the same" in fault for fault in of_night([NORMAL] * num, labels))


def test_labels_that_differ_tell_sooner():
    rng = np.random.default_rng(2)
    (fault,) = of_night([NORMAL] * 20, [tuple(rng.integers(0, 2, 3).tolist()) for _ in range(20)])
    assert "although their labels differ" in fault
    assert "at most 30%" in fault


def test_a_few_other_texts_excuse_nothing_where_they_do_not_follow_labels():
    texts = [NORMAL] * 190 + [f"There is opacity number {place}." for place in range(10)]
    with_findings = [(0,)] * 180 + [(1,)] * 20
    by_chance = [(int(place % 10 == 0),) for place in range(200)]
    assert of_night(texts, with_findings) == ()
    (fault,) = of_night(texts, by_chance)
    assert fault == "95% of 200 drafts read the same, at most 70% in a normal night"


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "say nothing"), ("lung lung lung lung lung {}", "repeat themselves"), ("Opacity {}.", "words on average")],
)
def test_empty_looped_and_short(text, words):
    texts = [text.format(number) for number in range(10)]
    assert any(words in fault for fault in of_night(texts, [(1,)] * 10))


@pytest.mark.parametrize(
    ("drafts", "smallest"), [(DRAFTS.model_copy(update={"empty": 0.0}), 5), (DRAFTS, 6), (None, 14)]
)
def test_empty_drafts_and_loops_are_noticed_in_nights_of_a_few(drafts, smallest):
    reports = REPORTS if drafts else None
    for text, words in (("", "say nothing"), ("lung lung lung lung {}", "repeat themselves")):
        allowed = drafts and drafts.model_copy(update={"looped": drafts.empty})
        for num in (smallest - 1, smallest):
            night = read_habits([text.format(number) for number in range(num)], [(1,)] * num)
            assert any(words in fault for fault in find_faults(night, reports, allowed)) == (num == smallest)


def test_the_length_of_a_few_drafts_means_nothing():
    assert of_night([f"Opacity {number}." for number in range(9)], [(number,) for number in range(9)]) == ()


def test_a_bundle_that_was_degenerate_from_the_beginning_excuses_nothing():
    beginning = Habits(num=240, alike=1.0, alike_against_labels=0.9, empty=0.9, looped=0.9, mean_words=3)
    night = read_habits([""] * 100, [(1,)] * 100)
    assert find_faults(night, REPORTS, beginning) == (
        "100% of 100 drafts read the same, at most 90% in a normal night",
        "100% of 100 drafts say nothing, at most 65% in a normal night",
    )


def test_without_a_reference_only_what_is_plain_counts():
    assert find_faults(read_habits([f"Text {n}." for n in range(50)], [(1,)] * 50), None, None) == ()
    assert find_faults(read_habits([""] * 50, [(1,)] * 50), None, None)
