"""Boxes survive the way into the model's frame and back, for every film shape."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crrg.data.images import fitted_size, model_input
from crrg.domain.boxes import Letterbox


@given(
    width=st.integers(8, 4000),
    height=st.integers(8, 4000),
    size=st.sampled_from([64, 128, 256, 512]),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_round_trip(width: int, height: int, size: int, corners: tuple[float, float, float, float]) -> None:
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    box = np.array([x1 * width, y1 * height, x2 * width, y2 * height])
    letterbox = Letterbox(width, height, size)
    inside = letterbox.to_input(box)
    assert np.all(inside >= -1e-6)
    assert np.all(inside <= size + 1e-6)
    np.testing.assert_allclose(letterbox.to_original(inside), box, atol=1e-6 * max(width, height))


@given(
    width=st.integers(40, 4000),
    height=st.integers(40, 4000),
    kept=st.sampled_from([128, 512, 700]),
    size=st.sampled_from([64, 224, 256, 512]),
)
def test_the_film_lies_where_the_letterbox_says(width: int, height: int, kept: int, size: int) -> None:
    kept_size = fitted_size(width, height, kept)
    image = model_input(np.full(kept_size[::-1], 255, np.uint8), size)
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=float)
    letterbox = Letterbox(width, height, size, kept_size)
    whole = np.array([0.0, 0.0, width, height])
    np.testing.assert_allclose(letterbox.to_input(whole), seen, atol=0.01)
    np.testing.assert_allclose(letterbox.to_original(seen), whole, atol=0.01)
