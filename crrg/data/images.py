"""Pixels as a model wants them: the one letterbox, its version, and its golden digest.

Training and inference both call ``model_input``, so that a film is prepared the same way in both. Nothing here knows
DICOM (``dicom``), PNG or JPEG (``pictures``), or the normalisation of a network (which lies inside the models).
"""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

from crrg.domain.boxes import Letterbox

PREPROCESSING_VERSION = "1"
"""Raised whenever the same bytes would give other model inputs; stands in every bundle."""


def model_input(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Fit a film into the square a model looks at: aspect kept, centred, padded with black.

    Args:
        pixels: uint8 ``[H, W]``, white = dense.
        size: Side of the square, pixels.

    Returns:
        uint8 ``[size, size]``; ``crrg.domain.boxes.Letterbox`` of the same film converts its boxes.
    """
    height, width = pixels.shape
    box = Letterbox(width=width, height=height, size=size)
    inner = resize(pixels, *box.inner_size)
    left, top = box.offset
    square = np.zeros((size, size), dtype=np.uint8)
    square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return square


def resize(pixels: NDArray[np.generic], width: int, height: int) -> NDArray[np.generic]:
    """Resize ``[H, W]`` pixels of any depth: a side that shrinks is averaged, one that grows is filled in linearly.

    Args:
        pixels: uint8 or uint16 ``[H, W]``.
        width: New width, pixels.
        height: New height, pixels.

    Returns:
        The same type, ``[height, width]``; the input itself where the size is already right.
    """
    if pixels.shape == (height, width):
        return pixels
    averaged = min(width, pixels.shape[1]), min(height, pixels.shape[0])
    if averaged != pixels.shape[::-1]:
        pixels = np.asarray(cv2.resize(pixels, averaged, interpolation=cv2.INTER_AREA))
    if averaged == (width, height):
        return pixels
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR))


def fitted_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Return width and height so that the longer side is at most ``longest``; a smaller film is not enlarged."""
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def pixel_digest(pixels: NDArray[np.uint8]) -> bytes:
    """Return the sha256 over shape and bytes of a film, by which equal films are told."""
    height, width = pixels.shape
    return hashlib.sha256(f"{height}x{width}:".encode() + np.ascontiguousarray(pixels).tobytes()).digest()


def golden_digest() -> str:
    """Return the hex sha256 of ``model_input`` on a fixed drawn pattern.

    A bundle keeps the digest of the machine that trained it; another value at load means that films are prepared
    differently here.
    """
    rows, columns = np.mgrid[0:300, 0:230]
    pattern = ((rows * 7 + columns * 13 + (rows // 16 + columns // 16) % 2 * 96) % 256).astype(np.uint8)
    return hashlib.sha256(model_input(pattern, 128).tobytes()).hexdigest()
