"""Whether white is dense on a film, by its header and, where the header does not settle it, by the picture.

A header that agrees with itself is believed, whatever the picture looks like. PNG and JPEG have none, and a header may
contradict itself: then the film is compared to the coarse look of a frontal chest (dark lungs, bright middle, bright
abdomen), and turned only where it is clearly the negative of that. Knows no file format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

TURN_BELOW = -0.3
"""Likeness under which a film is a negative. 302 real frontal films (``docs/results/films.md``) lie above -0.22, so
none of them would be turned; nine of ten of their negatives lie below."""
COARSE_SIDE = 32
"""Side of the square, pixels, in which films are compared."""


@dataclass(frozen=True)
class Stated:
    """What a header says of polarity.

    Attributes:
        inverts: Whether values must be inverted to make white dense.
        is_certain: Whether the header leaves no doubt; else the picture may overrule it.
    """

    inverts: bool
    is_certain: bool


@dataclass(frozen=True)
class Polarity:
    """What is done about polarity.

    Attributes:
        inverts: Whether values are inverted.
        flags: ``polarity_by_picture`` where the picture overruled, ``polarity_doubtful`` where it may not.
    """

    inverts: bool
    flags: tuple[str, ...] = ()


NOT_STATED = Stated(inverts=False, is_certain=False)
"""Of a PNG or JPEG: white is dense by custom, but nothing says so."""


def judge_polarity(shown: NDArray[Any], stated: Stated) -> Polarity:
    """Decide whether a film is inverted.

    Args:
        shown: uint8 ``[H, W]``, windowed, not yet inverted.
        stated: What the header says.
    """
    likeness = chest_likeness(shown)
    if (-likeness if stated.inverts else likeness) >= TURN_BELOW:
        return Polarity(stated.inverts)
    if stated.is_certain:
        return Polarity(stated.inverts, ("polarity_doubtful",))
    return Polarity(not stated.inverts, ("polarity_by_picture",))


def chest_likeness(pixels: NDArray[Any]) -> float:
    """Return how alike a film is to a frontal chest with white = dense, -1..1; a negative has the opposite sign."""
    return coarse_likeness(cv2.resize(pixels, (COARSE_SIDE, COARSE_SIDE), interpolation=cv2.INTER_AREA))


def coarse_likeness(pixels: NDArray[Any]) -> float:
    """Return the same of a film that was averaged down to a square of ``COARSE_SIDE`` pixels."""
    coarse = pixels.astype(np.float32)
    coarse -= float((_WEIGHT * coarse).sum())
    energy = float((_WEIGHT * coarse * coarse).sum())
    return float((_WEIGHT * coarse * _CHEST).sum()) / energy**0.5 if energy > 0 else 0.0


def _draw_chest() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (sum 1) and the look of a chest (mean 0, energy 1), ``[32, 32]`` each."""
    y, x = np.mgrid[0:COARSE_SIDE, 0:COARSE_SIDE] / (COARSE_SIDE - 1)

    def spot(center_x: float, center_y: float, width: float, height: float) -> NDArray[np.float64]:
        return np.asarray(np.exp(-(((x - center_x) / width) ** 2) / 2 - ((y - center_y) / height) ** 2 / 2))

    lungs = spot(0.27, 0.42, 0.1, 0.2) + spot(0.73, 0.42, 0.1, 0.2)
    abdomen = np.exp(-(((x - 0.5) / 0.35) ** 2)) / (1 + np.exp(-25 * (y - 0.85)))
    chest = 1.2 * spot(0.5, 0.5, 0.07, 0.5) + 0.9 * abdomen - lungs
    weight = np.exp(-(((x - 0.5) / 0.45) ** 4) - ((y - 0.5) / 0.5) ** 4)
    weight /= weight.sum()
    chest -= (weight * chest).sum()
    chest /= np.sqrt((weight * chest * chest).sum())
    return weight.astype(np.float32), chest.astype(np.float32)


_WEIGHT, _CHEST = _draw_chest()
