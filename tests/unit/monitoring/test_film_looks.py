from __future__ import annotations

import numpy as np
import pytest

from crrg.data.polarity import chest_likeness
from crrg.domain.study import Film, ViewPosition
from crrg.monitoring.quantities import look_at


@pytest.mark.parametrize("shape", [(466, 512), (32, 32), (33, 200), (31, 200), (20, 24)])
def test_a_film_of_any_size_is_as_alike_to_a_chest_as_its_reader_found(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    film = Film(
        pixels=pixels,
        original_width=shape[1],
        original_height=shape[0],
        view_position=ViewPosition.PA,
        pixel_spacing_mm=None,
        polarity_inverted=False,
        pixel_digest=b"",
        flags=(),
    )
    assert look_at(film).likeness == round(chest_likeness(pixels), 4) != 0
