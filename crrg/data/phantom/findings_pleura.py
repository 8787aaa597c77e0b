"""Paint what lies between lung and chest wall: air, fluid, thickening and plaques."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from crrg.data.phantom.anatomy import Points, moved, sign
from crrg.data.phantom.drawing import Drawing, blob, side_of
from crrg.data.phantom.scene import DrawnFinding


def paint_pneumothorax(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint the visceral pleural line of a partly collapsed lung and the black, empty space outside it."""
    anatomy, frame, side = drawing.anatomy, drawing.frame, side_of(finding)
    severity, tall = finding.severity, anatomy.lung_height
    reach = 0.38 + 0.55 * severity
    levels = np.linspace(0.0, reach, 22) * tall
    share = levels / (reach * tall)
    depth = (1.8 + 4.2 * severity) * (1 - share**1.6) * (1 + 0.06 * np.sin(7 * share + rng.uniform(0, 6)))
    apex = (1.4 + 2.2 * severity) * (1 - share) ** 2
    lateral = anatomy.lateral_x(side, levels)
    medial = anatomy.medial_x(side, levels)
    line_x = lateral - sign(side) * np.minimum(depth, 0.75 * np.abs(lateral - medial))
    line = np.stack([line_x, levels + apex], axis=1)
    hook = np.array([[medial[3], line[0, 1] + 0.5], [(medial[3] + line[0, 0]) / 2, line[0, 1] - 0.25]])
    edge = np.concatenate([hook, line])
    dome_of_chest = np.stack([lateral, levels], axis=1)[::-1]
    empty = frame.fill([np.concatenate([edge, dome_of_chest, [[medial[0], 0.0]]])], 0.05) * drawing.lungs[side]
    drawing.density -= drawing.vessels * empty * np.float32(0.12)
    drawing.density -= empty * np.float32(0.1 + 0.07 * severity)
    collapsed = drawing.lungs[side] * (1 - empty)
    drawing.opacify(collapsed, 0.08 + 0.16 * severity)
    pleura = frame.soften(frame.stroke([edge], 0.17), 0.03)
    drawing.density += pleura * drawing.lungs[side] * np.float32(0.16 + 0.1 * severity)
    drawing.vessels = drawing.vessels * (1 - empty)


def paint_effusion(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint fluid that blunts the angle and climbs the chest wall as a meniscus."""
    anatomy, frame, side = drawing.anatomy, drawing.frame, side_of(finding)
    severity = finding.severity
    dome = anatomy.dome(side)
    outer = anatomy.lung_height * (0.17 + 0.4 * severity**1.2) * rng.uniform(0.92, 1.08)
    inner = max(0.0, anatomy.lung_height * (-0.03 + 0.34 * severity))
    width = 0.5 + 0.5 * min(1.0, severity * 1.5)
    u = np.linspace(1 - width, 1, 20)
    climb = ((u - (1 - width)) / width) ** 2.4
    level = anatomy.lung_height - (inner + (outer - inner) * climb)
    top_left = float(anatomy.medial_x(side, anatomy.lung_height))
    wall = anatomy.lateral_x(side, level)
    surface = np.stack([top_left + u * (wall - top_left), level], axis=1)
    below = dome[dome[:, 1] > -1][::-1]
    below = below[np.abs(below[:, 0] - top_left) >= (1 - width) * abs(float(dome[-1, 0]) - top_left) - 0.3]
    down = np.linspace(float(level[-1]) - 0.3, anatomy.lung_height + 0.6, 10)
    corner = np.stack([anatomy.lateral_x(side, down) * 1.03, down], axis=1)
    cover = frame.fill([np.concatenate([surface, corner, moved(below, 0, 0.4)])], 0.16) * drawing.lungs[side]
    drawing.opacify(cover, 0.86, 0.66)
    veil = frame.fill([anatomy.zone_outline(side, 0.55, 1.0)], 1.5) * drawing.lungs[side]
    drawing.opacify(veil, 0.03 + 0.09 * severity)


def paint_thickening(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint a band of thick pleura: a cap over the apex, or along the wall into the angle."""
    anatomy, frame, side = drawing.anatomy, drawing.frame, side_of(finding)
    is_apical = "apical" in finding.regions[0]
    low, high = (-0.005, 0.24 + 0.08 * finding.severity) if is_apical else (0.52 - 0.12 * finding.severity, 1.0)
    levels = np.linspace(low, high, 20) * anatomy.lung_height
    wave = 1 + 0.15 * np.sin(np.linspace(0, 9, 20) + rng.uniform(0, 6))
    thick = (0.9 + 1.3 * finding.severity) * wave
    lateral = anatomy.lateral_x(side, levels)
    if is_apical:
        thick = thick * np.linspace(1.5, 0.3, 20)
        cap = np.array([float(anatomy.medial_x(side, 0.12 * anatomy.lung_height)), float(thick[0]) * 1.3])
        inner = np.stack([lateral - sign(side) * thick, levels + thick * 0.9], axis=1)
        inner = np.concatenate([cap[None], inner[2:]])
        outline = np.concatenate([[[cap[0], -1.0]], np.stack([lateral, levels - 0.2], axis=1), inner[::-1]])
    else:
        wall = np.stack([lateral * 1.01, levels], axis=1)
        outline = np.concatenate([wall, (wall - np.stack([sign(side) * thick, np.zeros(20)], axis=1))[::-1]])
    cover = frame.fill([outline], 0.1) * drawing.lungs[side]
    drawing.opacify(cover, 0.75 + 0.2 * finding.severity, 0.66)


def paint_plaques(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint calcified plaques: bright, sharply bordered maps over the lung and along the wall."""
    anatomy, frame, side = drawing.anatomy, drawing.frame, side_of(finding)
    outlines: list[Points] = []
    for _ in range(2 + round(3 * finding.severity)):
        level = rng.uniform(0.38, 0.66) * anatomy.lung_height
        medial, lateral = float(anatomy.medial_x(side, level)), float(anatomy.lateral_x(side, level))
        center = np.array([medial + rng.uniform(0.45, 0.95) * (lateral - medial), level])
        shape = blob(center, rng.uniform(0.8, 1.2) + 0.6 * finding.severity, rng, 0.45, 22)
        outlines.append(center + (shape - center) * [1.35, 0.6])
    cover = frame.fill(outlines, 0.04) * drawing.lungs[side]
    rim = np.clip(cover - frame.soften(cover, 0.25), 0, 1)
    drawing.density += (0.6 * cover + 0.9 * rim) * np.float32(0.2 + 0.2 * finding.severity)


PLEURA_PAINTERS: Mapping[str, Callable[[Drawing, DrawnFinding, np.random.Generator], None]] = {
    "apical_pneumothorax": paint_pneumothorax,
    "pleural_effusion": paint_effusion,
    "pleural_thickening": paint_thickening,
    "pleural_plaque": paint_plaques,
}
"""Kind to its painter."""
