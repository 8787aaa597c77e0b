"""Boxes of films that are kept smaller than they were taken, where a model looks at yet another size."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from crrg.data.dataset.batches import load_films
from crrg.data.dataset.pairs import write_dataset
from crrg.data.images import fitted_size, model_input, pixel_digest, resize
from crrg.domain.regions import NUM_REGIONS
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, RegionAnnotation, RegionSource, Split, ViewPosition
from crrg.inference.film_drafts import FilmDrafts
from crrg.storage import Storage
from crrg.training import visibility

WIDTH, HEIGHT, KEPT = 2021, 2500, 512
WHOLE = (0.0, 0.0, float(WIDTH), float(HEIGHT))
"""The first of 40 films whose widths differ by a pixel, so that both roundings go up and down."""


def white_film(width: int = WIDTH, height: int = HEIGHT) -> Film:
    kept_width, kept_height = fitted_size(width, height, KEPT)
    pixels = np.full((kept_height, kept_width), 255, np.uint8)
    return Film(pixels, width, height, ViewPosition.PA, None, False, pixel_digest(pixels))


def shown(image: np.ndarray) -> list[float]:
    """Return where a model input is not padding, edges in pixels."""
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    return [float(each) for each in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]


@pytest.fixture
def table(tmp_path):
    regions = (RegionAnnotation("right lung", WHOLE, None, None, RegionSource.MASK),)
    pairs = [
        Pair(
            f"p{number}", f"s{number}", f"i{number}", white_film(WIDTH + number, HEIGHT), Report(), regions, {}, "",
            "folder", bytes([number]) * 32, Split.TRAIN,
        )
        for number in range(40)
    ]  # fmt: skip
    storage = Storage(str(tmp_path))
    return storage, write_dataset(storage, "demo", pairs, {"image_size": KEPT})


@pytest.mark.parametrize("size", [64, 224, 256, 1000])
def test_a_box_of_a_whole_film_covers_what_the_model_sees_of_it(table, size: int) -> None:
    films = load_films(*table, Split.TRAIN, size)
    left, top, right, bottom = films.input_boxes_xyxy[0, 0].tolist()
    assert [left, top, right, bottom] == pytest.approx(shown(films.images[0]), abs=0.01)
    for number in range(len(films)):
        seen = shown(films.images[number])
        back = films.letterbox(number).to_original(np.array(seen))
        assert back.tolist() == pytest.approx([0, 0, WIDTH + number, HEIGHT], abs=0.01)


def test_a_found_box_goes_back_to_where_it_was_found() -> None:
    for width in range(WIDTH, WIDTH + 40):
        film = white_film(width)
        found = np.tile(np.array(shown(model_input(film.pixels, 256)), np.float32), (1, NUM_REGIONS, 1))
        zeros = np.zeros((1, NUM_REGIONS))
        readings = SimpleNamespace(input_boxes_xyxy=found, detected=zeros, scores=zeros, abnormal_probabilities=zeros)
        drafts = FilmDrafts(readings, None, zeros, zeros, zeros, [{}], [{}], [("", "")], [{}])  # type: ignore[arg-type]
        assert drafts.regions(0, film, 256)[0].box_xyxy == pytest.approx((0, 0, width, HEIGHT), abs=0.01)


def test_a_side_that_shrinks_is_averaged_while_the_other_grows() -> None:
    """Columns of black and white in turn, as pixels five times as high as wide are brought to squares."""
    stripes = np.tile(np.array([0, 200], np.uint8), (30, 150))
    small = resize(stripes, 60, 50)
    assert small.shape == (50, 60)
    assert small.min() >= 80
    assert small.max() <= 120
    assert np.array_equal(resize(np.ascontiguousarray(stripes.T), 50, 60), small.T)


def test_films_are_cut_where_the_model_sees_their_edge(table, monkeypatch) -> None:
    films = load_films(*table, Split.TRAIN, 256)
    seen: list[list[int]] = []
    monkeypatch.setattr(
        visibility,
        "cut_films",
        lambda images, sizes, boxes, _seed: (seen.extend(sizes.tolist()), (images, boxes[..., 0]))[1],
    )
    visibility.visibility_cases(films, lambda images: np.zeros((len(images), NUM_REGIONS)), seed=0)
    assert seen == [[fitted_size(WIDTH + number, HEIGHT, KEPT)[0], KEPT] for number in range(40)]
