"""Films as PNG pictures for people to look at; never an input of a model."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crrg.errors import ImageError

PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
"""Films are noise to a search for repeated bytes: runs alone take half the time and a tenth less space."""


def film_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a film as an 8-bit grayscale PNG.

    Args:
        pixels: uint8 ``[H, W]``, white = dense.

    Raises:
        ImageError: The picture cannot be encoded, e.g. because it is empty.
    """
    is_done, encoded = cv2.imencode(".png", pixels, PNG_OPTIONS) if pixels.size else (False, None)
    if not is_done or encoded is None:
        raise ImageError(f"a film of shape {pixels.shape} cannot be drawn", code="GEOMETRY.EMPTY")
    return bytes(encoded)
