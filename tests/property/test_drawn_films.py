"""For all seeds, studies and sizes: boxes on the film, labels and findings agree, painting repeats itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crrg.data.phantom.painter import paint
from crrg.data.phantom.sampler import sample_scene
from crrg.domain.regions import REGIONS

SEEDS = st.integers(0, 2**31)
INDICES = st.integers(0, 10**7)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, index=INDICES, size=st.integers(32, 90))
def test_every_film_has_29_boxes_on_it(seed: int, index: int, size: int):
    film = paint(sample_scene(seed, index), seed, size)
    height, width = film.pixels.shape
    boxes = np.array([film.boxes[region] for region in REGIONS])
    assert max(height, width) == size
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= [width, height]).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 2 - 1e-9).all()
    for side in ("right", "left"):
        lung = film.boxes[f"{side} lung"]
        for zone in ("apical zone", "upper lung zone", "mid lung zone", "lower lung zone"):
            x1, y1, x2, y2 = film.boxes[f"{side} {zone}"]
            assert lung[0] - 2 <= x1
            assert x2 <= lung[2] + 2
            assert lung[1] - 2 <= y1
            assert y2 <= lung[3] + 2


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS, index=INDICES)
def test_labels_say_what_is_drawn(seed: int, index: int):
    scene = sample_scene(seed, index)
    present = {finding.label for finding in scene.findings}
    assert {label for label, value in scene.labels.items() if value == 1} - {"No Finding"} == present
    assert scene.labels["No Finding"] == int(not present - {"Support Devices"})
    assert scene == sample_scene(seed, index)
