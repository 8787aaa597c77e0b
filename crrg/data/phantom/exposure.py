"""From density to stored values: scatter, automatic exposure, contrast, noise, grid, markers, 12 bits, polarity.

As on a real digital system, exposure control sets mean and spread of the whole film, not the disease; so that neither
tells a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from crrg.data.phantom.film_frame import FilmFrame, Layer

BITS_STORED = 12
MAX_VALUE = (1 << BITS_STORED) - 1
MONOCHROME1_SHARE = 0.3

Photometric = Literal["MONOCHROME1", "MONOCHROME2"]


@dataclass(frozen=True)
class ExposedFilm:
    """Stored values and how they came about.

    Attributes:
        pixels: uint16 ``[H, W]``, 0..4095, in the stored polarity.
        photometric: MONOCHROME2 stores dense as high, MONOCHROME1 as low.
        mean: Mean grey 0..1 that exposure control aimed at.
        spread: Standard deviation it aimed at.
    """

    pixels: NDArray[np.uint16]
    photometric: Photometric
    mean: float
    spread: float


def expose(density: Layer, frame: FilmFrame, rng: np.random.Generator) -> ExposedFilm:
    """Expose a finished drawing.

    Args:
        density: ``[H, W]``.
        frame: Where the body lies, for lengths.
        rng: Decides exposure, noise and polarity.
    """
    photometric: Photometric = "MONOCHROME1" if rng.random() < MONOCHROME1_SHARE else "MONOCHROME2"
    mean, spread = float(rng.uniform(0.36, 0.58)), float(rng.uniform(0.17, 0.25))
    scatter = np.float32(rng.uniform(0.05, 0.3))
    image = (1 - scatter) * density + scatter * frame.soften(density, float(rng.uniform(1.5, 3.5)))
    image = np.maximum(image, 0) ** np.float32(rng.uniform(0.8, 1.3))
    image *= _heel(frame, rng)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.008, 0.026))
    image += noise * (0.4 + image)
    if rng.random() < 0.25:
        period, amplitude = rng.uniform(2.5, 6.0), np.float32(rng.uniform(0.002, 0.006))
        image += amplitude * np.sin(np.arange(frame.width, dtype=np.float32) * np.float32(2 * np.pi / period))
    average, deviation = cv2.meanStdDev(image)
    image = (image - average[0, 0]) * (spread / max(deviation[0, 0], 1e-6)) + mean
    image = _shoulder(image)
    _collimate(image, frame, rng)
    _place_marker(image, frame, rng)
    pixels = np.clip(np.rint(image * MAX_VALUE), 0, MAX_VALUE).astype(np.uint16)
    return ExposedFilm(pixels if photometric == "MONOCHROME2" else MAX_VALUE - pixels, photometric, mean, spread)


def _heel(frame: FilmFrame, rng: np.random.Generator) -> Layer:
    """Return the slow fall-off of the beam across the film."""
    slope = rng.normal(0, 0.06, 2)
    x = np.linspace(-0.5, 0.5, frame.width, dtype=np.float32)
    y = np.linspace(-0.5, 0.5, frame.height, dtype=np.float32)
    return np.asarray(1 + np.float32(slope[0]) * x[None] + np.float32(slope[1]) * y[:, None])


def _shoulder(image: Layer) -> Layer:
    """Compress toe and shoulder like a film's characteristic curve; 0..1 stays inside."""
    centred = (image - 0.5) * 2
    square = centred * centred
    return np.asarray(0.5 + 0.5 * centred / np.sqrt(np.sqrt(1 + square * square)), dtype=np.float32)


def _collimate(image: Layer, frame: FilmFrame, rng: np.random.Generator) -> None:
    share = rng.uniform(0.004, 0.025, 4)
    if rng.random() < 0.2:
        top, bottom = int(share[0] * frame.height), int(share[1] * frame.height)
        left, right = int(share[2] * frame.width), int(share[3] * frame.width)
        border = np.ones(image.shape, bool)
        border[top : frame.height - bottom, left : frame.width - right] = False
        image[border] = 0.02


def _place_marker(image: Layer, frame: FilmFrame, rng: np.random.Generator) -> None:
    """Burn the lead letter of a side marker into an upper corner."""
    is_left, height = rng.random() < 0.6, rng.uniform(0.03, 0.05)
    inset, level = rng.uniform(0.02, 0.08), rng.uniform(0.06, 0.14)
    if rng.random() > 0.75:
        return
    scale = max(frame.width, frame.height) * height / 22
    x = (1 - inset) * frame.width - 18 * scale if is_left else inset * frame.width
    mark = np.zeros(image.shape, np.uint8)
    origin = (int(x), int(level * frame.height))
    cv2.putText(
        mark,
        "L" if is_left else "R",
        origin,
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        255,
        max(1, round(2 * scale)),
        cv2.LINE_AA,
    )
    cover = mark.astype(np.float32) / 255
    image += cover * (0.97 - image)
