"""Grey values: brightness of colour, contrast between percentiles, and whether there is anything to see.

Shared by all readers of films; knows no file format.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.errors import ImageError

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green, blue in the brightness of a pixel (ITU-R BT.601)."""
TAIL_PERCENTILES = (0.5, 99.5)
_LUMA_ROWS = 256
_CONTRAST_STEPS = 1024
_MIN_CONTRAST = 8


def luminance(rgb: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the brightness of colour pixels ``[H, W, 3]`` as uint8 ``[H, W]``."""
    grey = np.empty(rgb.shape[:2], np.uint8)
    # some rows at a time: a large film in floating point would need twelve times its memory
    for top in range(0, len(rgb), _LUMA_ROWS):
        rows = slice(top, top + _LUMA_ROWS)
        grey[rows] = np.rint(rgb[rows].astype(np.float32) @ LUMA).clip(0, 255)
    return grey


def stretch_unit(values: NDArray[np.float32], counted: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return values as 0..1 between the 0.5th and 99.5th percentile of ``counted``, which is all of them if absent."""
    low, high = (float(value) for value in np.percentile(values if counted is None else counted, TAIL_PERCENTILES))
    if high <= low:
        low, high = float(values.min()), float(values.max()) + 1e-6
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), dtype=np.float32)


def stretch(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return values as uint8 between their 0.5th and 99.5th percentile."""
    return np.asarray(np.rint(stretch_unit(values) * 255), dtype=np.uint8)


def check_not_blank(pixels: NDArray[Any], num_levels: int) -> None:
    """Refuse a picture whose values hardly differ.

    Args:
        pixels: ``[H, W]``.
        num_levels: How many values a pixel could have.

    Raises:
        ImageError: QUALITY.BLANK.
    """
    low, high = np.percentile(pixels[::4, ::4], (1, 99))
    if float(high) - float(low) < max(_MIN_CONTRAST, num_levels // _CONTRAST_STEPS):
        raise ImageError("the picture is blank", code="QUALITY.BLANK")
