"""Films that lack a part: what is left of the picture, and of which regions that is known."""

from __future__ import annotations

import numpy as np

from crrg.data.cut_films import LEAST_CUT, MOST_CUT, cut_films

SIZE, NUM = 64, 60
SIZES = np.tile(np.array([[96, 48]], np.int32), (NUM, 1))
"""The films fill the input's width and its rows 16 to 48."""


def films() -> np.ndarray:
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[16:48] = 200
    return np.tile(image, (NUM, 1, 1))


def boxes() -> np.ndarray:
    whole, left, middle, unknown = [0, 16, 64, 48], [0, 16, 6, 48], [31, 31, 33, 33], [np.nan] * 4
    return np.tile(np.array([whole, left, middle, unknown], np.float32), (NUM, 1, 1))


def test_a_region_is_visible_as_long_as_half_of_it_is_left() -> None:
    cut, visible = cut_films(films(), SIZES, boxes(), seed=3)
    assert (visible[:, 0] == 1).all(), "at most half is cut off"
    assert (visible[:, 2] == 1).all(), "no cut reaches the middle"
    assert np.isnan(visible[:, 3]).all()
    # the left edge is lost exactly where the film was cut on its left
    assert 5 < (visible[:, 1] == 0).sum() < 30
    black = [image for image in cut if (image == 0).mean() > 0.5]
    lost = [SIZE * 32 - (image > 0).sum() for image in black]
    assert len(black) > 10, "some are collimated"
    assert all(round(LEAST_CUT * 32) * SIZE * 0.9 <= each <= MOST_CUT * SIZE * 32 * 1.1 for each in lost)
    assert any((image > 0).sum() > SIZE * 32 for image in cut), "others are cropped: what is left fills more"


def test_the_same_seed_cuts_the_same() -> None:
    first, again, other = (cut_films(films(), SIZES, boxes(), seed) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
    nothing = cut_films(films()[:0], SIZES[:0], boxes()[:0], 1)
    assert [each.shape for each in nothing] == [(0, SIZE, SIZE), (0, 4)]
