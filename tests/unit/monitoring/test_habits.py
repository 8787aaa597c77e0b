from __future__ import annotations

import numpy as np
import pytest

from crrg.monitoring.habits import Habits, find_faults, is_looped, read_habits

REPORTS = Habits(num=1000, alike=0.05, alike_against_labels=0.01, empty=0.0, looped=0.0, mean_words=30)
DRAFTS = Habits(num=240, alike=0.4, alike_against_labels=0.05, empty=0.02, looped=0.0, mean_words=20)
NORMAL = "The heart is normal in size. The lungs are clear. There is no effusion."


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
    assert found == Habits(num=4, alike=0.5, alike_against_labels=0.25, empty=0.25, looped=0.0, mean_words=8 / 3)
    assert read_habits([], []) == Habits()


@pytest.mark.parametrize("share_normal", [0.3, 0.8, 0.95])
def test_a_night_of_mostly_normal_films_is_good(share_normal):
    rng = np.random.default_rng(1)
    for _ in range(20):
        is_normal = rng.random(200) < share_normal
        texts = [NORMAL if normal else f"There is opacity number {place}." for place, normal in enumerate(is_normal)]
        # the label head errs on some of the normal films
        labels = [(int(not normal or rng.random() < 0.1), int(normal)) for normal in is_normal]
        assert of_night(texts, labels) == ()


def test_all_alike_though_labels_differ():
    rng = np.random.default_rng(2)
    (fault,) = of_night([NORMAL] * 60, [tuple(rng.integers(0, 2, 3).tolist()) for _ in range(60)])
    assert "although their labels differ" in fault
    assert "at most 30%" in fault


def test_all_alike_with_equal_labels():
    assert of_night([NORMAL] * 60, [(0, 1)] * 60) == ()
    (fault,) = of_night([NORMAL] * 400, [(0, 1)] * 400)
    assert fault.startswith("100% of 400 drafts read the same,")


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "say nothing"), ("lung lung lung lung lung {}", "repeat themselves"), ("Opacity {}.", "words on average")],
)
def test_empty_looped_and_short(text, words):
    texts = [text.format(number) for number in range(30)]
    assert any(words in fault for fault in of_night(texts, [(1,)] * 30))


def test_a_night_too_small_to_tell():
    assert of_night([""] * 9, [(1,)] * 9) == ()


def test_a_bundle_that_was_degenerate_from_the_beginning_excuses_nothing():
    beginning = Habits(num=240, alike=1.0, alike_against_labels=0.9, empty=0.9, looped=0.9, mean_words=3)
    night = read_habits([""] * 100, [(1,)] * 100)
    (fault,) = find_faults(night, REPORTS, beginning)
    assert fault == "100% of 100 drafts say nothing, at most 75% in a normal night"


def test_without_a_reference_only_what_is_plain_counts():
    assert find_faults(read_habits([f"Text {n}." for n in range(50)], [(1,)] * 50), None, None) == ()
    assert find_faults(read_habits([""] * 50, [(1,)] * 50), None, None)
