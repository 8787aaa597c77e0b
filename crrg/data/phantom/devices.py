"""Paint tubes, lines, wires and implants over the finished chest.

A device's severity only says how easily it is seen: low values are thin or pale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from crrg.data.phantom.anatomy import Points, moved, sign, smooth_closed
from crrg.data.phantom.drawing import Drawing, ellipse, side_of
from crrg.data.phantom.scene import DrawnFinding


def paint_endotracheal_tube(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint a tube in the trachea that ends above the carina, with its bright marker line."""
    anatomy = drawing.anatomy
    tip = anatomy.carina_level - rng.uniform(1.5, 4.5)
    line = anatomy.trachea(24)
    line = np.concatenate([[[line[0, 0] + rng.normal(0, 0.5), -12.0]], line[line[:, 1] < tip]])
    walls = [moved(line, -0.42, 0), moved(line, 0.42, 0)]
    _lay(drawing, walls, 0.14, 0.12 + 0.06 * finding.severity)
    _lay(drawing, [moved(line, 0.3, 0)], 0.2, 0.26 + 0.2 * finding.severity)


def paint_central_line(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint a catheter from below the clavicle or from the neck into the superior vena cava."""
    anatomy, side = drawing.anatomy, side_of(finding)
    cava_x = anatomy.turn - anatomy.mediastinum_half * 0.72
    end = np.array([cava_x, anatomy.heart_top + rng.uniform(-0.5, 2.4)])
    join = np.array([cava_x, anatomy.arch_level - 0.6])
    if rng.random() < 0.45:
        start = np.array([sign(side) * rng.uniform(2.8, 4.0), -9.0])
        via = np.array([sign(side) * 2.6, -1.0])
    else:
        start = np.array([sign(side) * (anatomy.half_width * 1.05), anatomy.clavicle_level + rng.uniform(2.0, 4.5)])
        via = moved(anatomy.clavicle(side)[7], 0, 0.9)
    points = _curve([start, via, moved(join, sign(side) * 0.8, -1.6), join, end])
    _lay(drawing, [points], 0.24, 0.24 + 0.2 * finding.severity)


def paint_pacemaker(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint a generator below the clavicle with leads to the right atrium and ventricle."""
    anatomy, frame, side = drawing.anatomy, drawing.frame, side_of(finding)
    center = np.array(
        [sign(side) * anatomy.half_width * rng.uniform(0.55, 0.72), anatomy.lung_height * rng.uniform(0.2, 0.28)]
    )
    size = rng.uniform(1.5, 2.1) + 0.4 * finding.severity
    box = smooth_closed(center + np.array([[-1, -0.8], [0.9, -0.9], [1, 0.5], [0, 1], [-1, 0.6]]) * size)
    cover = frame.fill([box], 0.04)
    inner = frame.fill([center + (box - center) * 0.6], 0.05)
    cava = np.array([anatomy.turn - anatomy.mediastinum_half * 0.7, anatomy.arch_level])
    heart = anatomy.heart_outline()
    atrium = np.array([heart[:, 0].min() * 0.7 + anatomy.turn * 0.3, anatomy.heart_top + 3.6])
    apex = np.array([heart[:, 0].max() * 0.62, float(heart[:, 1].max()) - 1.6])
    entry = moved(anatomy.clavicle(side)[6], 0, 0.9)
    leads = [_curve([center, entry, moved(cava, 0, -1.5), cava, atrium])]
    if rng.random() < 0.8:
        leads.append(
            _curve([center, entry, moved(cava, 0.1, -1.4), moved(cava, 0, 1.5), moved(atrium, 0.6, 2.2), apex])
        )
    _lay(drawing, leads, 0.2, 0.26 + 0.14 * finding.severity)
    drawing.density += (0.55 * cover + 0.12 * inner) * np.float32(0.8 + 0.2 * finding.severity)


def paint_chest_tube(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint a drain that enters through the lateral wall and runs up the pleural space."""
    anatomy, side = drawing.anatomy, side_of(finding)
    entry = rng.uniform(0.58, 0.78) * anatomy.lung_height
    tip_level = rng.uniform(0.1, 0.4) * anatomy.lung_height
    start = np.array([sign(side) * (anatomy.half_width + anatomy.wall + 2.0), entry + 2.0])
    wall = np.array([float(anatomy.lateral_x(side, entry)), entry])
    inside = wall - [sign(side) * 2.4, 1.6]
    tip = np.array([float(anatomy.lateral_x(side, tip_level)) * rng.uniform(0.55, 0.85), tip_level])
    line = _curve([start, wall, inside, (inside + tip) / 2 + rng.normal(0, 0.4, 2), tip])
    step = np.gradient(line, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.linalg.norm(step, axis=1, keepdims=True)
    _lay(drawing, [line + normal * 0.38, line - normal * 0.38], 0.13, 0.1 + 0.07 * finding.severity)
    _lay(drawing, [line[:-8], line[-6:]], 0.2, 0.24 + 0.2 * finding.severity)


def paint_sternal_wires(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint a column of twisted wire loops over the sternum."""
    anatomy = drawing.anatomy
    levels = np.linspace(0.14, rng.uniform(0.58, 0.7), int(rng.integers(5, 8))) * anatomy.lung_height
    loops, knots = [], []
    for level in levels:
        center = np.array([anatomy.turn * 1.2 + rng.normal(0, 0.12), level])
        wide = rng.uniform(0.6, 0.95)
        loop = ellipse(center, wide, 0.4, 20)
        loops.append(np.concatenate([loop, loop[:1]]))
        knots.append(center + np.array([[-0.1, 0.35], [0.1, 0.85]]))
    _lay(drawing, loops + knots, 0.11, 0.36 + 0.25 * finding.severity)


def paint_enteric_tube(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint a feeding tube down the oesophagus that curls below the left hemidiaphragm."""
    anatomy = drawing.anatomy
    x = anatomy.turn * 0.8
    dome = anatomy.dome_levels[1]
    points = [
        np.array([x + 0.4, -12.0]),
        np.array([x + 0.3, 0.0]),
        np.array([x + 0.2, anatomy.carina_level]),
        np.array([x + 0.7, dome - 1.5]),
        np.array([x + 2.4, dome + 2.2]),
        np.array([anatomy.half_width * rng.uniform(0.35, 0.6), dome + rng.uniform(2.8, 5.0)]),
        np.array([anatomy.half_width * 0.3, dome + rng.uniform(5.0, 8.0)]),
    ]
    _lay(drawing, [_curve(points)], 0.24, 0.22 + 0.2 * finding.severity)


def _lay(drawing: Drawing, lines: Sequence[Points], width: float, strength: float) -> None:
    drawing.density += drawing.frame.stroke(lines, width) * np.float32(strength)


def _curve(points: list[Points]) -> Points:
    """Return an open Catmull-Rom curve through points, ``[N, 2]``: ten points from each to the next."""
    control = np.array([2 * points[0] - points[1], *points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, 10, endpoint=False)[None, :, None]
    p0, p1, p2, p3 = (control[i : len(control) - 3 + i, None] for i in range(4))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    return np.concatenate([curve.reshape(-1, 2), control[-2:-1]])


DEVICE_PAINTERS: Mapping[str, Callable[[Drawing, DrawnFinding, np.random.Generator], None]] = {
    "endotracheal_tube": paint_endotracheal_tube,
    "central_line": paint_central_line,
    "pacemaker": paint_pacemaker,
    "chest_tube": paint_chest_tube,
    "sternal_wires": paint_sternal_wires,
    "enteric_tube": paint_enteric_tube,
}
"""Kind to its painter."""
