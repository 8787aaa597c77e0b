"""Where the body lies on the film: from centimetres to pixels, and masks drawn through that map.

Knows neither anatomy nor grey values beyond "how much of this shape covers this pixel".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from crrg.data.phantom.anatomy import POSE_STREAM, Anatomy, Points
from crrg.data.phantom.scene import Scene

Layer: TypeAlias = NDArray[np.float32]
"""Coverage or density per pixel, float32 ``[H, W]``."""

_SHIFT = 4
_ASPECTS = (1.0, 1.0, 0.82, 0.82, 0.9, 1.1)


@dataclass(frozen=True)
class FilmFrame:
    """The map from the patient frame to one film.

    Attributes:
        width: Pixels.
        height: Pixels.
        px_per_cm: Pixels per centimetre in the patient.
        matrix: ``[2, 3]``, from ``(x, y, 1)`` in cm to pixels.
    """

    width: int
    height: int
    px_per_cm: float
    matrix: NDArray[np.float64]

    def to_pixels(self, points: Points) -> NDArray[np.float64]:
        """Map points ``[N, 2]`` from centimetres to pixels ``[N, 2]``."""
        return np.asarray(points, dtype=np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def fill(self, outlines: Sequence[Points], blur_cm: float = 0.0) -> Layer:
        """Return the coverage 0..1 of filled outlines in cm, soft at the edge by ``blur_cm``."""
        mask = np.zeros((self.height, self.width), np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [self._fixed(outline)], 255, cv2.LINE_AA, _SHIFT)
        return self.soften(_share(mask), blur_cm)

    def stroke(
        self,
        lines: Sequence[Points] | Points,
        widths_cm: Sequence[float] | Points | float,
        values: Points | None = None,
    ) -> Layer:
        """Return the coverage 0..1 of open lines in cm, the brightest winning where they cross.

        Args:
            lines: Points ``[N, 2]`` of each line.
            widths_cm: Width of each line, or of all; never thinner than a pixel, thin ones get paler instead.
            values: Peak of each line, 0..1; 1 where not given.
        """
        mask = np.zeros((self.height, self.width), np.uint8)
        widths_px = np.broadcast_to(np.asarray(widths_cm, dtype=float) * self.px_per_cm, len(lines))
        peaks = (values if values is not None else np.ones(len(lines))) * np.clip(widths_px, 0.35, 1)
        # few distinct greys, so that many lines share one call
        greys = np.rint(np.clip(peaks, 0, 1) * 17).astype(int) * 15
        thickness = np.maximum(1, np.rint(widths_px)).astype(int)
        ends = np.cumsum([len(line) for line in lines])[:-1]
        fixed = np.split(self._fixed(np.concatenate(list(lines))), ends)
        for grey, thick in sorted(set(zip(greys.tolist(), thickness.tolist(), strict=True))):
            chosen = np.flatnonzero((greys == grey) & (thickness == thick))
            cv2.polylines(mask, [fixed[i] for i in chosen], False, grey, thick, cv2.LINE_AA, _SHIFT)
        return _share(mask)

    def soften(self, layer: Layer, blur_cm: float) -> Layer:
        """Return a layer blurred by a Gaussian of standard deviation ``blur_cm``; wide ones run at low resolution."""
        sigma = blur_cm * self.px_per_cm
        if sigma < 0.35:
            return layer
        factor = 1
        while sigma / factor > 3 and min(self.height, self.width) / factor > 24:
            factor *= 2
        if factor == 1:
            return np.asarray(cv2.GaussianBlur(layer, (0, 0), sigma), dtype=np.float32)
        small = cv2.resize(layer, (self.width // factor, self.height // factor), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), sigma / factor)
        return np.asarray(cv2.resize(small, (self.width, self.height), interpolation=cv2.INTER_LINEAR), np.float32)

    def texture(self, rng: np.random.Generator, grain_cm: float) -> Layer:
        """Return smooth noise of mean 0 and deviation about 1 with structures of ``grain_cm``, the same at any size."""
        cells = max(3, int(np.ceil(60.0 / grain_cm)))
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        scale = self.px_per_cm * grain_cm
        corner = self.matrix[:, 2] - np.array([30, 20]) * self.px_per_cm
        matrix = np.array([[scale, 0, corner[0]], [0, scale, corner[1]]])
        warped = cv2.warpAffine(
            grid, matrix, (self.width, self.height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        return np.asarray(warped, dtype=np.float32)

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        # pixel centres lie at half-integers in box coordinates and at integers in OpenCV
        return np.round((self.to_pixels(points) - 0.5) * (1 << _SHIFT)).astype(np.int32)


def _share(mask: NDArray[np.uint8]) -> Layer:
    return np.multiply(mask, np.float32(1 / 255), dtype=np.float32)


def place_on_film(anatomy: Anatomy, scene: Scene, seed: int, size: int) -> FilmFrame:
    """Return how a radiographer placed and collimated the patient.

    Args:
        anatomy: The body.
        scene: The study; its index decides the placement.
        seed: Seed of the cohort.
        size: Longer side of the film in pixels.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, POSE_STREAM, scene.index, 1]))
    aspect = _ASPECTS[rng.integers(len(_ASPECTS))]
    width, height = (size, max(8, round(size / aspect))) if aspect >= 1 else (max(8, round(size * aspect)), size)
    angle = float(np.clip(rng.normal(0, 2.4), -7, 7))
    need_x = 2 * anatomy.half_width * 1.03
    need_y = anatomy.lung_height + 2.2
    zoom = rng.uniform(1.02, 1.3)
    px_per_cm = min(width / need_x, height / need_y) / zoom
    slack_x = width / px_per_cm - need_x
    slack_y = height / px_per_cm - need_y
    middle = np.array([anatomy.turn * 0.3, anatomy.lung_height / 2])
    shift = np.array([rng.uniform(-0.36, 0.36) * slack_x, rng.uniform(-0.42, 0.34) * slack_y])
    cos, sin = np.cos(np.deg2rad(angle)) * px_per_cm, np.sin(np.deg2rad(angle)) * px_per_cm
    linear = np.array([[cos, -sin], [sin, cos]])
    offset = np.array([width / 2, height / 2]) + shift * px_per_cm - linear @ middle
    return FilmFrame(width, height, float(px_per_cm), np.concatenate([linear, offset[:, None]], axis=1))
