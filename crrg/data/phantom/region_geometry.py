"""The 29 region boxes of a drawn film, exactly from the outlines that were painted.

Each region is an outline in centimetres; its box is the extent of that outline on the film, clipped to the film.
Zones follow Chest ImaGenome: apex, upper, mid and lower zone by level, hila around the hilar points.
"""

from __future__ import annotations

import numpy as np

from crrg.data.phantom.anatomy import SIDES, Anatomy, BodySide, Points, sign
from crrg.data.phantom.film_frame import FilmFrame
from crrg.data.phantom.scene import RegionBoxes
from crrg.domain.boxes import BoxXyxy
from crrg.domain.regions import REGIONS

ZONES: dict[str, tuple[float, float]] = {
    "apical zone": (-0.005, 0.17),
    "upper lung zone": (0.0, 0.38),
    "mid lung zone": (0.38, 0.62),
    "lower lung zone": (0.62, 1.0),
}
"""Upper and lower end of each zone as shares of the lung's height."""

_MIN_SIDE_PX = 2.0


def region_boxes(anatomy: Anatomy, frame: FilmFrame) -> RegionBoxes:
    """Return the boxes of all 29 regions in pixels of the film, clipped to it and at least 2 pixels wide and tall."""
    outlines = region_outlines(anatomy)
    return RegionBoxes({region: _extent(outlines[region], frame) for region in REGIONS})


def region_outlines(anatomy: Anatomy) -> dict[str, Points]:
    """Return the outline ``[N, 2]`` in cm of every region."""
    outlines: dict[str, Points] = {}
    for side in SIDES:
        outlines[f"{side} lung"] = anatomy.lung_outline(side)
        for zone, (top, bottom) in ZONES.items():
            outlines[f"{side} {zone}"] = anatomy.zone_outline(side, top, bottom)
        outlines[f"{side} hilar structures"] = _hilum(anatomy, side)
        outlines[f"{side} costophrenic angle"] = _costophrenic_angle(anatomy, side)
        dome = anatomy.dome(side)
        outlines[f"{side} hemidiaphragm"] = np.concatenate([dome, dome - [0, 0.5]])
        outlines[f"{side} clavicle"] = _thick(anatomy.clavicle(side), 0.65)
    outlines.update(_midline(anatomy))
    return outlines


def _midline(anatomy: Anatomy) -> dict[str, Points]:
    half, turn, tall = anatomy.mediastinum_half, anatomy.turn, anatomy.lung_height
    heart = anatomy.heart_outline()
    mediastinum = anatomy.mediastinum_outline()
    upper = mediastinum[(mediastinum[:, 1] > -1.0) & (mediastinum[:, 1] < anatomy.carina_level + 1.0)]
    visible = mediastinum[mediastinum[:, 1] > -1.0]
    knob = half * 0.8 + anatomy.aortic_knob
    atrium_x = heart[:, 0].min()
    junction = anatomy.heart_top + 1.6
    heart_bottom = float(heart[:, 1].max())
    levels = np.linspace(-4.0, tall + 6.0, 14)
    spine = np.stack([anatomy.spine_x(levels), levels], axis=1)
    arch = anatomy.arch_level
    belly = min(anatomy.dome_levels)
    reach = anatomy.half_width * 0.97
    return {
        "trachea": _thick(anatomy.trachea(), 0.95),
        "carina": _rectangle(
            turn * 0.8 - 2.2, anatomy.carina_level - 0.9, turn * 0.8 + 1.6, anatomy.carina_level + 1.5
        ),
        "spine": _thick(spine, 2.1),
        "aortic arch": _rectangle(turn - 0.4, arch - anatomy.aortic_knob - 0.7, turn + knob, arch + 1.5),
        "upper mediastinum": upper,
        "mediastinum": np.concatenate([visible, heart]),
        "svc": _rectangle(turn - half * 1.05, arch - 1.4, turn - half * 0.25, junction),
        "cavoatrial junction": _rectangle(
            atrium_x * 0.55 + (turn - half) * 0.45 - 0.5, junction - 1.2, turn - 0.4, junction + 1.4
        ),
        "right atrium": _rectangle(atrium_x, junction + 0.2, turn + 0.3, heart_bottom - 0.6),
        "cardiac silhouette": heart,
        "abdomen": _rectangle(-reach, belly, reach, tall + 9.0),
    }


def _hilum(anatomy: Anatomy, side: BodySide) -> Points:
    x, y = anatomy.hilum(side)
    inner = anatomy.turn + sign(side) * anatomy.mediastinum_half * 0.6
    outer = x + sign(side) * 2.4
    return _rectangle(min(inner, outer), y - 2.6, max(inner, outer), y + 3.2)


def _costophrenic_angle(anatomy: Anatomy, side: BodySide) -> Points:
    tip = anatomy.dome(side)[-1]
    top = anatomy.lung_height * 0.87
    outer = anatomy.lateral_x(side, np.linspace(top, anatomy.lung_height, 5))
    inner = tip[0] - sign(side) * 0.26 * anatomy.half_width
    xs = np.concatenate([outer, [inner, inner]])
    ys = np.concatenate([np.linspace(top, anatomy.lung_height, 5), [anatomy.lung_height + 0.3, top]])
    return np.stack([xs, ys], axis=1)


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> Points:
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])


def _thick(line: Points, half_width: float) -> Points:
    step = np.gradient(line, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
    return np.concatenate([line + normal * half_width, line - normal * half_width])


def _extent(outline: Points, frame: FilmFrame) -> BoxXyxy:
    pixels = frame.to_pixels(outline)
    limit = np.array([frame.width, frame.height], dtype=float)
    low = np.clip(pixels.min(axis=0), 0, limit - _MIN_SIDE_PX)
    high = np.clip(pixels.max(axis=0), low + _MIN_SIDE_PX, limit)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
