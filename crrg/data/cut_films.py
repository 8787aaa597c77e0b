"""Films that lack a part, so that it is known of each region whether the film still shows it.

Archives hold few films on which an annotated region is missing, and none says so. Cut off is what a radiographer cuts
off: one side, by the edge of the film (what is left fills the model's input, larger than before) or by the collimator
(the part is black). Knows arrays only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crrg.data.images import model_input
from crrg.domain.boxes import Letterbox, box_area

LEAST_CUT, MOST_CUT = 0.15, 0.5
"""Share of a film's height or width that is cut off."""
SHOWN_SHARE = 0.5
"""A region is visible as long as at least this share of its box is left."""
FloatArray = NDArray[np.floating]


def cut_films(
    images: NDArray[np.uint8], kept_sizes: NDArray[np.int32], input_boxes_xyxy: FloatArray, seed: int
) -> tuple[NDArray[np.uint8], FloatArray]:
    """Cut a part off each film.

    Args:
        images: Model inputs, uint8 ``[N, S, S]``.
        kept_sizes: Width and height of the pictures that became model inputs, ``[N, 2]``.
        input_boxes_xyxy: Where the regions lie, ``[N, R, 4]`` in input pixels; NaN where that is not known.
        seed: Of side, share and manner.

    Returns:
        Model inputs of the cut films ``[N, S, S]``, and of each region ``[N, R]`` 1 where it is visible, 0 where not,
        NaN where that is not known.
    """
    rng = np.random.default_rng(seed)
    cut, visible = np.empty_like(images), np.full(input_boxes_xyxy.shape[:2], np.nan)
    for row, (width, height) in enumerate(kept_sizes.tolist()):
        box = Letterbox(width, height, images.shape[-1])
        (inner_width, inner_height), (left, top) = box.inner_size, box.offset
        whole = np.array([left, top, left + inner_width, top + inner_height])
        kept, side = whole.copy(), int(rng.integers(4))
        length = inner_width if side % 2 == 0 else inner_height
        removed = round(length * rng.uniform(LEAST_CUT, MOST_CUT))
        kept[side] += removed if side < 2 else -removed
        cut[row] = _without(images[row], kept, is_cropped=bool(rng.integers(2)))
        visible[row] = _shows(input_boxes_xyxy[row], whole, kept)
    return cut, visible


def _without(image: NDArray[np.uint8], kept: NDArray[np.int64], *, is_cropped: bool) -> NDArray[np.uint8]:
    x1, y1, x2, y2 = kept.tolist()
    if is_cropped:
        return model_input(image[y1:y2, x1:x2], image.shape[-1])
    black = np.zeros_like(image)
    black[y1:y2, x1:x2] = image[y1:y2, x1:x2]
    return black


def _shows(boxes: FloatArray, whole: NDArray[np.int64], kept: NDArray[np.int64]) -> FloatArray:
    """Return 1 for boxes ``[R, 4]`` of which enough is left, 0 for others, NaN for unknown and empty ones."""

    def area_within(frame: NDArray[np.int64]) -> FloatArray:
        corners = [np.clip(boxes[:, i], frame[i % 2], frame[2 + i % 2]) for i in range(4)]
        return box_area(np.stack(corners, axis=-1))

    before = area_within(whole)
    is_known = np.isfinite(boxes).all(axis=-1) & (before > 0)
    return np.where(is_known, area_within(kept) >= SHOWN_SHARE * before, np.nan)
