"""Boxes of the 29 regions from the boxes of the lungs: a rough map for films that nobody annotated further.

Every edge of a region is a weighted mean of edges of the lungs (and the heart), fitted on drawn anatomy; how well it
does there and beside the mean box is printed by ``benchmarks/fit_atlas.py``. The body is taken to stand upright, seen
from the front. Knows no pixels: effusions, rotation and surgery are beyond it, which is why its boxes are marked
``atlas``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crrg.data.atlas_constants import HEART_WEIGHTS, LUNG_WEIGHTS
from crrg.domain.boxes import BoxXyxy
from crrg.domain.regions import REGIONS

LUNGS = ("right lung", "left lung")
HEART = "cardiac silhouette"
ATLAS_VERSION = 1
"""Raised when the same lungs would give other boxes; a part of a dataset's fingerprint."""
_MIN_SIDE_PX = 2.0


def atlas_boxes(known: Mapping[str, BoxXyxy], film_size: tuple[int, int]) -> dict[str, BoxXyxy]:
    """Return boxes for the regions that are not known yet.

    Args:
        known: Region to ``box_xyxy`` in original pixels. Both lungs are needed; the heart is used where it is there.
        film_size: Width and height of the film in original pixels.

    Returns:
        Region to box, clipped to the film, in region order, without the regions of ``known``; empty where a lung is
        missing or the right lung does not lie left of the left one in the picture. A region that would fall off the
        film is left out.
    """
    if not set(LUNGS) <= set(known) or known[LUNGS[0]][0] >= known[LUNGS[1]][0]:
        return {}
    lungs = np.array([known[lung] for lung in LUNGS], dtype=float)
    boxes: dict[str, BoxXyxy] = {}
    for region in REGIONS:
        if region in known:
            continue
        if HEART in known and region in HEART_WEIGHTS:
            anchors, weights = np.concatenate([lungs, [known[HEART]]]), HEART_WEIGHTS[region]
        else:
            anchors, weights = lungs, LUNG_WEIGHTS[region]
        box = _weighted_box(anchors, np.array(weights), film_size)
        if box is not None:
            boxes[region] = box
    return boxes


def _weighted_box(
    anchors: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    weights: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    film_size: tuple[int, int],
) -> BoxXyxy | None:
    """Return the box whose edges weigh those of the anchors ``[A, 4]`` by ``[4, 2 A]``; ``None`` off the film."""
    edges = [anchors[:, (axis, axis + 2)].ravel() for axis in (0, 1)]
    values = [float(weights[edge] @ edges[edge % 2]) for edge in range(4)]
    width, height = film_size
    x1, y1 = max(0.0, values[0]), max(0.0, values[1])
    x2, y2 = min(float(width), values[2]), min(float(height), values[3])
    return (x1, y1, x2, y2) if x2 - x1 >= _MIN_SIDE_PX and y2 - y1 >= _MIN_SIDE_PX else None
