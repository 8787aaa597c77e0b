"""Films as PNG pictures for people to look at, with or without what a draft says of them; never input of a model."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from crrg.domain.evidence import SentenceEvidence
from crrg.domain.regions import REGION_INDEX, REGIONS
from crrg.domain.study import DraftReport, Film, RegionPrediction, reads_abnormal
from crrg.errors import ImageError

PNG_OPTIONS = [
    cv2.IMWRITE_PNG_COMPRESSION, 1,
    cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
    cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB,
    cv2.IMWRITE_PNG_ZLIBBUFFER_SIZE, 2**18,
]  # fmt: skip
"""Films are noise to a search for repeated bytes: without it, and with one filter instead of the best for each row, a
picture takes a third of the time and a twentieth more space."""
PANEL_SIDE = 384
"""Longer side of a film in a sheet, pixels."""
HEAT_OPACITY = 0.6
"""Of the cell that most rests on."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.34
_OUTLINE = 1
"""Width of the dark line around letters, pixels."""
_AMBER, _BLUE, _WHITE, _BLACK = (84, 180, 255), (255, 196, 124), (255, 255, 255), (0, 0, 0)
"""Blue, green, red."""


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


def evidence_png(evidence: Sequence[SentenceEvidence]) -> bytes:
    """Return the maps of one film as a strip to lay over it: a tile per region, transparent where there is no map.

    The strip has as many pixels across as a map has cells and 29 tiles from top to bottom, in the order of the regions,
    so that whoever shows it needs no table of contents.

    Args:
        evidence: At least one map, all with the same number of cells.

    Raises:
        ImageError: There is none.
    """
    if not evidence:
        raise ImageError("a film without evidence has no picture of it", code="GEOMETRY.EMPTY")
    side = len(evidence[0].heat)
    strip = np.zeros((len(REGIONS), side, side, 4), np.uint8)
    for each in evidence:
        strip[REGION_INDEX[each.region], ..., :3] = _AMBER
        strip[REGION_INDEX[each.region], ..., 3] = np.round(255 * HEAT_OPACITY * each.heat)
    return _encoded(strip.reshape(-1, side, 4))


def evidence_sheet(
    film: Film, draft: DraftReport, evidence: Sequence[SentenceEvidence], abnormal_threshold: float
) -> bytes:
    """Return a PNG of a film with the boxes and names of its sentences' regions, and a panel for each map.

    No sentence is written on it: it stands beside the draft.

    Args:
        film: The film.
        draft: Its draft.
        evidence: Maps of some of its sentences.
        abnormal_threshold: Probability from which a region reads abnormal; its box is amber then, else blue.
    """
    told = [region for region in draft.regions if region.phrase]
    panels = [(told, None), *(([draft.regions[REGION_INDEX[each.region]]], each.heat) for each in evidence)]
    return _encoded(np.concatenate([_panel(film, *panel, abnormal_threshold) for panel in panels], axis=1))


def _panel(
    film: Film, regions: Sequence[RegionPrediction], heat: NDArray[np.floating] | None, abnormal_threshold: float
) -> NDArray[np.uint8]:
    """Draw one copy of a film, with heat and boxes."""
    scale = PANEL_SIDE / max(film.pixels.shape)
    width, height = (max(1, round(side * scale)) for side in film.pixels.shape[::-1])
    shown = cv2.cvtColor(cv2.resize(film.pixels, (width, height)), cv2.COLOR_GRAY2BGR).astype(np.float32)
    if heat is not None:
        cover = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
        shown += HEAT_OPACITY * cover[..., None] * (np.array(_AMBER, np.float32) - shown)
    canvas: NDArray[np.uint8] = np.round(shown).astype(np.uint8)
    across, down = width / film.original_width, height / film.original_height
    corners = []
    for region in regions:
        x1, y1, x2, y2 = region.box_xyxy
        corners.append((round(x1 * across), round(y1 * down)))
        colour = _AMBER if reads_abnormal(region.abnormal_probability, abnormal_threshold) else _BLUE
        cv2.rectangle(canvas, corners[-1], (round(x2 * across), round(y2 * down)), colour, 1)
    names = [region.region for region in regions]
    for name, (left, _, _, bottom) in zip(names, place_names(names, corners, width, height), strict=True):
        _write(canvas, name, left + _OUTLINE, bottom - _text_size(name)[2])
    return canvas


def place_names(
    names: Sequence[str], corners: Sequence[tuple[int, int]], width: int, height: int
) -> list[tuple[int, int, int, int]]:
    """Return where names stand on a picture: over the corners of their boxes, or as near to them as there is room.

    A name is moved sideways only to stay on the picture, and up or down only while it would cover an earlier one. Where
    a picture has no room for it at all, it stands over its corner nevertheless.

    Args:
        names: What is written.
        corners: Top left corner of each box, pixels of the picture.
        width: Of the picture.
        height: Of the picture.

    Returns:
        A rectangle around each name with its outline, pixels of the picture, max exclusive.
    """
    taken: NDArray[np.bool_] = np.zeros((height, width), np.bool_)
    places = []
    for name, (x, y) in zip(names, corners, strict=True):
        across, down, _ = _text_size(name)
        left, wanted = max(0, min(x, width - across)), max(0, min(y - down, height - down))
        rows = np.asarray(taken[:, left : left + across].any(axis=1))
        free = ((abs(top - wanted), top) for top in range(height - down + 1) if not rows[top : top + down].any())
        _, top = min(free, default=(0, wanted))
        taken[top : top + down, left : left + across] = True
        places.append((left, top, left + across, top + down))
    return places


def _write(canvas: NDArray[np.uint8], name: str, x: int, y: int) -> None:
    """Write a name in white with a dark outline; thicker letters would be wider, and no outline of these."""
    steps = range(-_OUTLINE, _OUTLINE + 1)
    dark = [((x + across, y + down), _BLACK) for across in steps for down in steps]
    for start, colour in (*dark, ((x, y), _WHITE)):
        cv2.putText(canvas, name, start, _FONT, _FONT_SCALE, colour, 1, cv2.LINE_AA)


def _text_size(name: str) -> tuple[int, int, int]:
    """Return width and height of a name with its outline, and how far above its lower end its letters stand."""
    (across, down), below = cv2.getTextSize(name, _FONT, _FONT_SCALE, 1)
    return across + 2 * _OUTLINE, down + below + 2 * _OUTLINE, below + _OUTLINE


def _encoded(picture: NDArray[np.uint8]) -> bytes:
    is_done, encoded = cv2.imencode(".png", picture)
    if not is_done:
        raise ImageError(f"a picture of shape {picture.shape} cannot be encoded", code="GEOMETRY.EMPTY")
    return bytes(encoded)
