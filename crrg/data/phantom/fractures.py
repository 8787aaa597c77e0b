"""Break drawn bones: which ribs, where, how far the ends stand apart, and the callus of an older fracture."""

from __future__ import annotations

import numpy as np

from crrg.data.phantom.anatomy import BodySide, Points, moved, sign
from crrg.data.phantom.drawing import Drawing, ellipse, side_of, zone_of
from crrg.data.phantom.scene import DrawnFinding


def broken_ribs(
    drawing: Drawing, finding: DrawnFinding, ribs: list[Points], per_side: int, rng: np.random.Generator
) -> tuple[list[Points], list[Points], list[Points]]:
    """Return the ribs with some of them broken in the finding's zone, the outlines of the gaps, and of callus.

    Args:
        drawing: The film.
        finding: The fracture; more severe means more ribs and a wider step.
        ribs: Middle lines of the posterior ribs, the right side's first.
        per_side: Number of ribs on each side.
        rng: Decides place and age of the fracture.
    """
    side = side_of(finding)
    first = 0 if side == "right" else per_side
    top, bottom = zone_of(finding)
    where = float(rng.uniform(0.34, 0.62))
    levels = [float(np.interp(where, np.linspace(0, 1, len(rib)), rib[:, 1])) for rib in ribs[first : first + per_side]]
    target = rng.uniform(top, bottom) * drawing.anatomy.lung_height
    count = 3 + round(2.0 * finding.severity)
    chosen = sorted(np.argsort(np.abs(np.array(levels) - target))[:count])
    width = drawing.anatomy.rib_width
    step = width * (0.6 + 0.8 * finding.severity)
    result, gaps, callus = list(ribs), [], []
    is_healing = bool(rng.random() < 0.5)
    for number in chosen:
        rib = ribs[first + int(number)]
        cut = round((where + rng.normal(0, 0.03)) * (len(rib) - 1))
        cut = int(np.clip(cut, 3, len(rib) - 4))
        middle = (rib[cut] + rib[cut + 1]) / 2
        outer = moved(rib[cut + 1 :], 0, step)
        result[first + int(number)] = rib[: cut + 1]
        result.append(outer)
        gaps.append(ellipse(moved(middle, 0, step / 2), 0.4 + 0.3 * finding.severity, width * 0.95, 10))
        if is_healing:
            callus.append(ellipse(moved(middle, 0, step / 2), width * 0.9, width * 0.95, 14))
    return result, ([] if is_healing else gaps), callus


def broken_clavicle(line: Points, side: BodySide, severity: float) -> list[Points]:
    """Return the two fragments of a broken clavicle: the lateral one has sunk and overlaps.

    Args:
        line: Middle line of the intact clavicle, medial end first.
        side: Side of the body.
        severity: 0..1, how far the fragments stand apart.
    """
    cut = len(line) // 2
    drop = 1.5 + 1.7 * severity
    shift = -sign(side) * (0.5 + 1.2 * severity)
    tilt = np.linspace(1, 0.45, len(line) - cut)[:, None]
    medial = line[:cut] - np.linspace(0, 0.5 * drop, cut)[:, None] * [0, 1]
    return [medial, moved(line[cut:], shift, 0) + tilt * [0, drop]]
