from __future__ import annotations

import cv2
import numpy as np
import pytest

from crrg.data.dataset.near_duplicates import FilmIndex, correlation
from crrg.data.phantom.cohort import drawn_study
from crrg.data.phantom.painter import paint


@pytest.fixture(scope="module")
def films() -> list[np.ndarray]:
    """Twelve drawn films, white = dense."""
    found = []
    for index in range(12):
        film = paint(drawn_study(7, index).scene, 7, 128)
        values = film.pixels.astype(np.float32)
        unit = (values - values.min()) / np.ptp(values)
        found.append((255 * (1 - unit if film.photometric == "MONOCHROME1" else unit)).astype(np.uint8))
    return found


SAVED_AGAIN = {
    "jpeg": lambda film: cv2.imdecode(cv2.imencode(".jpg", film, [1, 50])[1], cv2.IMREAD_GRAYSCALE),
    "smaller": lambda film: cv2.resize(film, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "darker": lambda film: (255 * (film / 255.0) ** 1.5).astype(np.uint8),
    "window": lambda film: np.clip((film.astype(float) - 20) * 1.2, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("way", SAVED_AGAIN)
def test_a_film_that_was_saved_again_is_found_and_no_other(films, way):
    index = FilmIndex()
    for film in films:
        index.add(film)
    for film in films[:5]:
        index.add(SAVED_AGAIN[way](film))
    assert index.find_pairs() == [(0, 12), (1, 13), (2, 14), (3, 15), (4, 16)]
    index.close()


def test_blank_films_and_single_films_are_nobodys_double():
    index = FilmIndex()
    blank = np.zeros((40, 40), dtype=np.uint8)
    index.add(blank)
    assert index.find_pairs() == []
    index.add(blank)
    assert (len(index), index.find_pairs()) == (2, [])
    assert correlation(np.zeros((64, 64), np.uint8), np.eye(64, dtype=np.uint8)) == 0
    index.close()


def test_correlation_of_a_film_with_itself_is_one():
    film = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert correlation(film, film) == pytest.approx(1, abs=1e-5)
    assert correlation(film, 255 - film) == pytest.approx(-1, abs=1e-5)
