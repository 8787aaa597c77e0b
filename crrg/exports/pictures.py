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
_AMBER, _BLUE, _WHITE = (84, 180, 255), (255, 196, 124), (255, 255, 255)
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
    for region in regions:
        x1, y1, x2, y2 = region.box_xyxy
        corner = (round(x1 * across), round(y1 * down))
        colour = _AMBER if reads_abnormal(region.abnormal_probability, abnormal_threshold) else _BLUE
        cv2.rectangle(canvas, corner, (round(x2 * across), round(y2 * down)), colour, 1)
        place = (corner[0] + 2, max(10, corner[1] - 3))
        cv2.putText(canvas, region.region, place, _FONT, 0.34, _WHITE, 1, cv2.LINE_AA)
    return canvas


def _encoded(picture: NDArray[np.uint8]) -> bytes:
    is_done, encoded = cv2.imencode(".png", picture)
    if not is_done:
        raise ImageError(f"a picture of shape {picture.shape} cannot be encoded", code="GEOMETRY.EMPTY")
    return bytes(encoded)
