"""Paint what is wrong inside the lungs: opacities, consolidation, pneumonia, lesions, edema and atelectasis.

Each painter changes the drawing's density inside the lung field only; strength and extent follow the severity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from crrg.data.phantom.anatomy import SIDES, Points, moved, sign
from crrg.data.phantom.drawing import Drawing, blob, branches, place_in_zone, side_of, zone_of
from crrg.data.phantom.film_frame import Layer
from crrg.data.phantom.scene import DrawnFinding


def paint_patchy_opacity(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint a hazy, ill-defined patch through which the vessels are still seen."""
    center = place_in_zone(drawing, finding, rng)
    reach = 2.6 + 2.2 * finding.severity
    outlines = [blob(center + rng.normal(0, 0.5 * reach, 2), reach * rng.uniform(0.6, 0.9), rng, 0.3) for _ in range(3)]
    cover = drawing.frame.fill(outlines, 0.55)
    drawing.opacify(cover * drawing.lungs[side_of(finding)], 0.45 + 0.35 * finding.severity)


def paint_consolidation(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint a dense, homogeneous part of a lobe with a straight fissure and air in its bronchi."""
    anatomy, frame, side = drawing.anatomy, drawing.frame, side_of(finding)
    top, bottom = zone_of(finding)
    tall = (bottom - top) * (0.95 + 0.5 * finding.severity)
    start = 1.0 - tall - 0.1 if bottom > 0.8 else top - (0.06 if bottom < 0.4 else 0.0)
    outline = anatomy.zone_outline(side, max(0.02, start), 1.0 if bottom > 0.8 else start + tall)
    limit = 0.22 - 0.2 * finding.severity
    levels = outline[:, 1]
    medial, lateral = anatomy.medial_x(side, levels), anatomy.lateral_x(side, levels)
    inner = medial + limit * (lateral - medial)
    outline = np.stack([np.where(sign(side) * (outline[:, 0] - inner) < 0, inner, outline[:, 0]), levels], axis=1)
    cover = frame.fill([outline], 0.15) * drawing.lungs[side]
    drawing.opacify(cover, 0.6 + 0.4 * finding.severity, 0.68)
    middle = outline.mean(axis=0)
    hilum = anatomy.hilum(side)
    heading = float(np.arctan2(middle[1] - hilum[1], middle[0] - hilum[0]))
    root = hilum + 0.35 * (middle - hilum)
    length = 0.5 * float(np.linalg.norm(middle - hilum)) + 1.5
    lines, widths = branches(root[None], np.array([heading]), np.array([length]), np.array([0.38]), rng, 2)
    air = frame.soften(frame.stroke(lines, widths), 0.06)
    drawing.density -= air * cover * np.float32(0.1)


def paint_pneumonia(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint many small confluent nodular shadows in a segment, mottled and fuzzy at the edge."""
    center = place_in_zone(drawing, finding, rng)
    reach = 2.8 + 2.2 * finding.severity
    num = 26 + round(34 * finding.severity)
    angle, distance = rng.uniform(0, 2 * np.pi, num), reach * np.sqrt(rng.uniform(0, 1, num))
    spots = center + np.stack([np.cos(angle), np.sin(angle)], axis=1) * distance[:, None]
    nodules = drawing.frame.fill([blob(spot, rng.uniform(0.22, 0.5), rng, 0.3, 9) for spot in spots], 0.16)
    halo = drawing.frame.fill([blob(center, reach, rng, 0.2)], 0.8)
    lung = drawing.lungs[side_of(finding)]
    drawing.opacify(halo * lung, 0.2 + 0.25 * finding.severity)
    drawing.opacify(nodules * lung, 0.45 + 0.4 * finding.severity, 0.66)


def paint_lesion(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint a round nodule with a clear edge, or a lobulated mass with spicules."""
    center = place_in_zone(drawing, finding, rng)
    if finding.kind == "nodule":
        outlines = [blob(center, 0.8 + 0.65 * finding.severity, rng, 0.08)]
        cover = drawing.frame.fill(outlines, 0.1)
        drawing.opacify(cover, 0.7 + 0.3 * finding.severity, 0.68)
        return
    radius = 1.8 + 1.8 * finding.severity
    cover = drawing.frame.fill([blob(center, radius, rng, 0.14, 28)], 0.2)
    angles = np.linspace(0, 2 * np.pi, 11, endpoint=False) + rng.uniform(0, 0.5)
    rays = [center + np.outer([0.8, 1.35], [np.cos(a), np.sin(a)]) * radius for a in angles]
    spicules = drawing.frame.soften(drawing.frame.stroke(rays, 0.16), 0.06)
    lung = drawing.lungs[side_of(finding)]
    drawing.opacify(np.maximum(cover, 0.4 * spicules) * lung, 0.8 + 0.2 * finding.severity, 0.72)


def paint_edema(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint fluid in both lungs: blurred wide vessels and septal lines, or bat-wing shadows around the hila."""
    anatomy, frame, severity = drawing.anatomy, drawing.frame, finding.severity
    lungs = drawing.both_lungs()
    haze = frame.fill([blob(moved(anatomy.hilum(side), sign(side) * 1.5, 0.5), 4.4, rng, 0.1) for side in SIDES], 1.6)
    drawing.opacify(haze * lungs, 0.07 + 0.2 * severity)
    drawing.density += frame.soften(drawing.vessels, 0.14) * np.float32(0.09 + 0.12 * severity)
    if finding.kind == "alveolar_edema":
        drawing.opacify(_bat_wings(drawing, severity, rng) * lungs, 0.34 + 0.36 * severity)
        return
    lines: list[Points] = []
    for side in SIDES:
        for _ in range(9 + round(9 * severity)):
            level = rng.uniform(0.52, 0.95) * anatomy.lung_height
            edge = float(anatomy.lateral_x(side, level)) - sign(side) * rng.uniform(0.1, 0.5)
            lines.append(
                np.array([[edge, level], [edge - sign(side) * rng.uniform(1.3, 2.4), level + rng.normal(0, 0.1)]])
            )
        for _ in range(26):
            spot = moved(anatomy.hilum(side), sign(side) * rng.uniform(0.5, 6.0), rng.normal(1.0, 4.5))
            turn = rng.uniform(0, np.pi)
            lines.append(spot + np.outer([-0.7, 0.7], [np.cos(turn), np.sin(turn)]) * rng.uniform(0.7, 1.4))
    septa = frame.soften(frame.stroke(lines, 0.2), 0.05) * lungs
    drawing.density += septa * np.float32(0.07 + 0.09 * severity)


def _bat_wings(drawing: Drawing, severity: float, rng: np.random.Generator) -> Layer:
    outlines = []
    for side in SIDES:
        center = moved(drawing.anatomy.hilum(side), sign(side) * (1.6 + 1.0 * severity), 0.8)
        spread = 1.5 + 1.2 * severity
        outlines += [blob(center + rng.normal(0, 1, 2) * [spread * 0.8, spread * 1.5], 1.3, rng, 0.3) for _ in range(9)]
    return drawing.frame.fill(outlines, 0.45)


def paint_linear_atelectasis(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint plate-like bands across the lower lung."""
    anatomy, side = drawing.anatomy, side_of(finding)
    lines = []
    for _ in range(1 + round(2 * finding.severity)):
        level = rng.uniform(0.64, 0.84) * anatomy.lung_height
        medial, lateral = float(anatomy.medial_x(side, level)), float(anatomy.lateral_x(side, level))
        start = medial + rng.uniform(0.35, 0.5) * (lateral - medial)
        end = start + sign(side) * (3.2 + 3.2 * finding.severity)
        end = max(end, lateral) if side == "right" else min(end, lateral)
        tilt = rng.normal(0.3, 0.5)
        lines.append(np.array([[start, level], [(start + end) / 2, level - tilt * 0.6], [end, level - tilt]]))
    width = 0.36 + 0.3 * finding.severity
    bands = drawing.frame.soften(drawing.frame.stroke(lines, width), 0.08)
    drawing.opacify(bands * drawing.lungs[side], 0.5 + 0.4 * finding.severity)


def paint_basal_atelectasis(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator) -> None:
    """Paint crowded streaks and a wedge of lost volume above a raised hemidiaphragm."""
    anatomy, frame, side = drawing.anatomy, drawing.frame, side_of(finding)
    dome = anatomy.dome(side)
    top = dome.copy()
    u = np.linspace(0, 1, len(dome))
    top[:, 1] -= (1.2 + 3.2 * finding.severity) * np.exp(-((u - rng.uniform(0.25, 0.45)) ** 2) / 0.09)
    wedge = frame.fill([np.concatenate([top, dome[::-1]])], 0.25)
    lung = drawing.lungs[side]
    drawing.opacify(wedge * lung, 0.4 + 0.4 * finding.severity)
    start = moved(anatomy.hilum(side), 0, 1.5)
    middle = dome[len(dome) // 2]
    headings = float(np.arctan2(*(middle - start)[::-1])) + np.linspace(-0.45, 0.45, 5)
    length = float(np.linalg.norm(middle - start)) * 0.75
    lines, widths = branches(np.repeat(start[None], 5, axis=0), headings, np.full(5, length), np.full(5, 0.34), rng, 1)
    streaks = frame.soften(frame.stroke(lines, widths), 0.05)
    drawing.density += streaks * lung * np.float32(0.06 + 0.1 * finding.severity)


LUNG_PAINTERS: Mapping[str, Callable[[Drawing, DrawnFinding, np.random.Generator], None]] = {
    "patchy_opacity": paint_patchy_opacity,
    "lobar_consolidation": paint_consolidation,
    "pneumonia": paint_pneumonia,
    "nodule": paint_lesion,
    "mass": paint_lesion,
    "interstitial_edema": paint_edema,
    "alveolar_edema": paint_edema,
    "linear_atelectasis": paint_linear_atelectasis,
    "basal_atelectasis": paint_basal_atelectasis,
}
"""Kind to its painter; bones and devices come after."""
