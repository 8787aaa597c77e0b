"""Examples beside a scorecard: only of films that this program drew."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, Split, ViewPosition
from crrg.exports.pictures import evidence_sheet
from crrg.operations.scoring.cases import Case
from crrg.operations.scoring.example_pictures import EXAMPLES, NUM_EXAMPLES, example_files
from tests.support.drawn_night import StandInDrafter, draft_of


def case(number: int, source: str) -> Case:
    film = Film(np.full((40, 50), 20 * number, np.uint8), 500, 400, ViewPosition.PA, None, False, b"")
    pair = Pair(
        f"p{number}",
        f"s{number}",
        f"i{number}",
        film,
        Report(None, None, None),
        (),
        {},
        "drawn",
        source,
        b"",
        Split.TEST,
    )
    return Case(pair, draft_of(film))


def test_a_handful_of_drawn_films_is_shown_with_boxes_maps_and_table() -> None:
    cases = [case(number, "phantom") for number in range(NUM_EXAMPLES + 3)]
    files = example_files(StandInDrafter(), cases)
    assert sorted(files) == sorted(EXAMPLES)
    assert files["example-2.png"].startswith(b"\x89PNG")
    assert "| cardiac silhouette | " in files["example-2.md"].decode()
    assert "The heart measures 0.078." in files["example-2.md"].decode()


@pytest.mark.parametrize(("threshold", "num_amber"), [(0.8, 1), (0.1, 2)])
def test_boxes_are_amber_from_the_threshold_of_the_bundle_on(threshold: float, num_amber: int) -> None:
    film = case(3, "phantom").reference.film
    draft = draft_of(film)
    shown = cv2.imdecode(np.frombuffer(evidence_sheet(film, draft, [], threshold), np.uint8), cv2.IMREAD_COLOR)
    colours = {tuple(pixel) for row in shown for pixel in row.tolist()}
    assert (84, 180, 255) in colours
    assert ((255, 196, 124) in colours) == (num_amber < 2)


def test_no_film_is_an_example_whose_sentences_all_read_normal_to_its_bundle() -> None:
    drafter = StandInDrafter()
    drafter.abnormal_threshold = 0.81
    assert example_files(drafter, [case(3, "phantom")]) == {}


def test_a_patients_film_is_never_shown() -> None:
    cases = [case(1, "openi"), case(2, "folder"), case(3, "phantom")]
    assert sorted(example_files(StandInDrafter(), cases)) == ["example-1.md", "example-1.png"]
    assert example_files(StandInDrafter(), cases[:2]) == {}
