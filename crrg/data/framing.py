"""How a film becomes the square that a published network was trained on.

Our own networks look at ``crrg.data.images.model_input``, the letterbox.

Source: CXR-CLIP (You et al., MICCAI 2023): shorter side resized, centre cut out; CheXzero (Tiu et al., 2022): longer
side to 320 by Lanczos, padded with black, then resized by cubic interpolation.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crrg.data.images import model_input

Framing = Literal["letterbox", "center_crop", "padded"]
PADDED_SIDE = 320


def frame_film(pixels: NDArray[np.uint8], size: int, framing: Framing) -> NDArray[np.float32]:
    """Return the square that a network looks at.

    Args:
        pixels: uint8 ``[H, W]``, white = dense.
        size: Side of the square, pixels.
        framing: ``letterbox`` shows the whole film, as our networks see it; ``center_crop`` cuts off the ends of its
            longer side; ``padded`` shows the whole film, resized in two steps.

    Returns:
        float32 ``[size, size]``, grey values of about 0..255 (cubic interpolation goes a little beyond).
    """
    match framing:
        case "letterbox":
            return model_input(pixels, size).astype(np.float32)
        case "center_crop":
            return _center_crop(pixels, size).astype(np.float32)
        case "padded":
            return _padded(pixels, size)


def _center_crop(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    height, width = pixels.shape
    shorter = min(height, width)
    film = Image.fromarray(pixels).resize(
        (size * width // shorter, size * height // shorter), Image.Resampling.BILINEAR
    )
    left, top = round((film.width - size) / 2), round((film.height - size) / 2)
    return np.asarray(film.crop((left, top, left + size, top + size)))


def _padded(pixels: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    height, width = pixels.shape
    ratio = PADDED_SIDE / max(height, width)
    film = Image.fromarray(pixels).resize(
        (max(1, int(width * ratio)), max(1, int(height * ratio))), Image.Resampling.LANCZOS
    )
    square = Image.new("L", (PADDED_SIDE, PADDED_SIDE))
    square.paste(film, ((PADDED_SIDE - film.width) // 2, (PADDED_SIDE - film.height) // 2))
    padded = np.asarray(square, dtype=np.float32)
    if size == PADDED_SIDE:
        return padded
    return np.asarray(cv2.resize(padded, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
