"""Random changes of training films that leave their meaning alone: place, size, exposure, grain.

Never a mirror image: the heart would lie on the right and every "left" in a report would be wrong. Works on numpy
arrays in model-input pixels, before anything becomes a tensor; a batch is a pure function of its random generator.

Source: the random crop, CLAHE and the changes of brightness and contrast about the mean are those that CXR-CLIP (You et
al., MICCAI 2023) trains with; of its changes of colour nothing is left on a grey film.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crrg.config.training import Augmentation

MIN_VISIBLE_SHARE = 0.4
"""Share of a box that must stay on the film; with less the region is treated as not annotated."""
CROP_RATIOS = (3 / 4, 4 / 3)
CROP_TRIES = 10
CLAHE_LIMITS = (1.0, 4.0)
CLAHE_TILES = (8, 8)


def augment_films(
    images: NDArray[np.uint8],
    input_boxes_xyxy: NDArray[np.float32],
    config: Augmentation,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Shift, scale, re-expose and roughen films, and move their boxes along.

    Args:
        images: Letterboxed films ``[B, S, S]``, grey values 0..255.
        input_boxes_xyxy: Boxes ``[B, R, 4]`` in input pixels; NaN rows stay NaN.
        config: Strength of each change.
        rng: Source of randomness; equal generators give equal films.

    Returns:
        Changed films and boxes, clipped to the input. A box mostly pushed off the film becomes NaN.
    """
    num_films, size = images.shape[:2]
    scales = rng.uniform(1 - config.scale, 1 + config.scale, (num_films, 1))
    stretches = rng.uniform(1 - config.stretch, 1 + config.stretch, (num_films, 2))
    factors = scales * stretches
    shifts = rng.uniform(-config.shift, config.shift, (num_films, 2)) * size + (1 - factors) * size / 2
    is_unmoved = _drawn(num_films, config.unmoved_share, rng)
    factors[is_unmoved], shifts[is_unmoved] = 1.0, 0.0
    if config.crop_area[1]:
        crops = np.array([_draw_crop(size, config.crop_area, rng) for _ in range(num_films)], dtype=np.float64)
        enlarged = size / crops[:, 2:]
        factors, shifts = factors * enlarged, (shifts - crops[:, :2]) * enlarged
    is_unexposed = _drawn(num_films, config.unexposed_share, rng)
    tables = _exposure_tables(num_films, config, rng)
    tables[is_unexposed] = np.arange(256)
    chances = rng.random((num_films if config.clahe_share else 0,))
    # a crop ends at the film's edge, where half a pixel must not fade to black
    border = cv2.BORDER_REPLICATE if config.crop_area[1] else cv2.BORDER_CONSTANT
    # boxes are told from the film's edge, the picture from the middle of its first pixel
    starts = shifts + (factors - 1) / 2
    changed = np.empty_like(images)
    for row in range(num_films):
        matrix = np.array([[factors[row, 0], 0, starts[row, 0]], [0, factors[row, 1], starts[row, 1]]])
        moved = cv2.warpAffine(images[row], matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
        if config.clahe_share and chances[row] < config.clahe_share:
            moved = cv2.createCLAHE(rng.uniform(*CLAHE_LIMITS), CLAHE_TILES).apply(moved)
        changed[row] = cv2.LUT(moved, tables[row])
    if config.brightness or config.contrast_about == "mean":
        changed = np.where(is_unexposed[:, None, None], changed, _jitter(changed, config, rng))
    if config.noise > 0:
        strengths = _noise_strengths(num_films, config, rng)
        noise = rng.standard_normal(changed.shape, dtype=np.float32) * strengths
        changed = np.clip(np.rint(changed + noise), 0, 255).astype(np.uint8)
    boxes = input_boxes_xyxy * np.tile(factors, 2)[:, None] + np.tile(shifts, 2)[:, None]
    return changed, _clip_boxes(boxes.astype(np.float32), size)


def _noise_strengths(num_films: int, config: Augmentation, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the standard deviation ``[B, 1, 1]`` of each film's noise."""
    power = 2 if config.least_noise else 1
    strengths = rng.uniform(config.least_noise**power, config.noise**power, (num_films, 1, 1)) ** (1 / power)
    strengths[_drawn(num_films, config.noiseless_share, rng)] = 0
    return strengths.astype(np.float32)


def _drawn(num_films: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a share of films, bool ``[B]``; for none of them the generator is not asked."""
    return rng.random(num_films) < share if share else np.zeros(num_films, dtype=bool)


def _draw_crop(size: int, area: tuple[float, float], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, width and height of a crop of a film's share ``area``; the whole film where none fits."""
    for _ in range(CROP_TRIES):
        side = size * np.sqrt(rng.uniform(*area))
        root = np.exp(rng.uniform(*np.log(CROP_RATIOS)) / 2)
        width, height = round(side * root), round(side / root)
        if 0 < width <= size and 0 < height <= size:
            left, top = rng.integers(size - width + 1), rng.integers(size - height + 1)
            return int(left), int(top), width, height
    return 0, 0, size, size


def _jitter(images: NDArray[np.uint8], config: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, and contrast about each film's mean."""
    shape = (len(images), 1, 1)
    films = images * rng.uniform(1 - config.brightness, 1 + config.brightness, shape)
    if config.contrast_about == "mean":
        means = films.mean(axis=(1, 2), keepdims=True)
        films = means + (films - means) * rng.uniform(1 - config.contrast, 1 + config.contrast, shape)
    return np.clip(np.round(films), 0, 255).astype(np.uint8)


def _exposure_tables(num_films: int, config: Augmentation, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one look-up table ``[B, 256]`` per film: gamma, then contrast about mid-grey; black stays black."""
    gammas = np.exp(rng.uniform(-config.gamma, config.gamma, (num_films, 1)))
    contrast = config.contrast if config.contrast_about == "middle" else 0.0
    contrasts = rng.uniform(1 - contrast, 1 + contrast, (num_films, 1))
    levels = (np.arange(256) / 255.0)[None] ** gammas
    tables = np.clip((levels - 0.5) * contrasts + 0.5, 0, 1)
    tables[:, 0] = 0
    return np.round(tables * 255).astype(np.uint8)


def _clip_boxes(boxes: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    clipped = np.clip(boxes, 0, size)
    before = np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
    after = np.prod(clipped[..., 2:] - clipped[..., :2], axis=-1)
    with np.errstate(invalid="ignore"):
        is_lost = ~(after >= MIN_VISIBLE_SHARE * before) | (after <= 0)
    clipped[is_lost] = np.nan
    return clipped
