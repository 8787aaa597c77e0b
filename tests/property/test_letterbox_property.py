"""Boxes survive the way into the model's frame and back, for every film shape."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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
