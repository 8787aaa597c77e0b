"""Paint the healthy chest: soft tissue, lungs with vessels, heart and great vessels, belly, and the bones over them.

Broken ribs and clavicles are painted here too, since a fracture is a changed bone and not something laid over it.
"""

from __future__ import annotations

import numpy as np

from crrg.data.phantom.anatomy import SIDES, Anatomy, BodySide, Points, moved, sign
from crrg.data.phantom.drawing import SOFT_TISSUE, Drawing, branches, ellipse, lateral_heading
from crrg.data.phantom.film_frame import FilmFrame, Layer
from crrg.data.phantom.fractures import broken_clavicle, broken_ribs
from crrg.data.phantom.scene import Scene

NUM_POSTERIOR_RIBS = 10
NUM_ANTERIOR_RIBS = 6


def paint_soft_tissue(scene: Scene, anatomy: Anatomy, frame: FilmFrame, rng: np.random.Generator) -> Drawing:
    """Return a drawing of the chest without bones and findings."""
    tall = anatomy.lung_height
    body = frame.fill([anatomy.torso_outline(tall + 30)], 0.35)
    drawing = Drawing(scene, anatomy, frame, body * np.float32(0.56 + 0.02 * anatomy.wall))
    belly = frame.fill([_below_domes(anatomy)], 0.9)
    drawing.density += belly * np.float32(rng.uniform(0.06, 0.14))
    _paint_belly_gas(drawing, rng)
    _paint_breasts(drawing, rng)
    air = np.float32(rng.uniform(0.36, 0.43))
    for side in SIDES:
        field = frame.fill([anatomy.lung_outline(side)], 0.1)
        depth = np.clip(2 * frame.soften(field, 1.2) - 1, 0, 1)
        drawing.lungs[side] = field
        drawing.density -= air * field * (0.62 + 0.38 * depth)
    _paint_vessels(drawing, rng)
    _paint_heart(drawing, rng)
    drawing.density += body * frame.texture(rng, 2.5) * np.float32(0.012)
    return drawing


def paint_bones(drawing: Drawing, rng: np.random.Generator) -> None:
    """Lay spine, ribs, clavicles and scapulae over the drawing, broken where the scene has a fracture."""
    anatomy, frame = drawing.anatomy, drawing.frame
    strength = float(rng.uniform(0.8, 1.25))
    posterior = [anatomy.posterior_rib(i, side) for side in SIDES for i in range(NUM_POSTERIOR_RIBS)]
    anterior = [anatomy.anterior_rib(i, side) for side in SIDES for i in range(1, NUM_ANTERIOR_RIBS + 1)]
    gap: list[Points] = []
    callus: list[Points] = []
    for finding in drawing.kinds("rib_fracture"):
        posterior, gaps, calluses = broken_ribs(drawing, finding, posterior, NUM_POSTERIOR_RIBS, rng)
        gap += gaps
        callus += calluses
    drawing.density += _tube(frame, posterior, anatomy.rib_width) * np.float32(0.1 * strength)
    drawing.density += _tube(frame, anterior, anatomy.rib_width * 1.15) * np.float32(0.055 * strength)
    if gap:
        drawing.density -= frame.fill(gap, 0.08) * np.float32(0.11 * strength)
    if callus:
        drawing.density += frame.fill(callus, 0.2) * np.float32(0.2 * strength)
    _paint_spine(drawing, strength)
    clavicles: list[Points] = []
    for side in SIDES:
        line = anatomy.clavicle(side)
        fractures = [found for found in drawing.kinds("clavicle_fracture") if found.side == side]
        clavicles += broken_clavicle(line, side, fractures[0].severity) if fractures else [line]
    drawing.density += _tube(frame, clavicles, 1.15) * np.float32(0.14 * strength)
    scapulae = frame.fill([_scapula(anatomy, side) for side in SIDES], 0.15)
    shafts = [_humerus(anatomy, side) for side in SIDES]
    arms = [*shafts, *(np.stack([shaft[0], moved(shaft[0], 0, 0.4)]) for shaft in shafts)]
    bones = 0.05 * scapulae + 0.07 * frame.soften(frame.stroke(arms, [2.2, 2.2, 4.2, 4.2]), 0.3)
    drawing.density += bones * np.float32(strength)


def _humerus(anatomy: Anatomy, side: BodySide) -> Points:
    x = sign(side) * (anatomy.half_width + anatomy.wall * 0.6 + 3.0)
    return np.array([[x, 1.4], [x + sign(side) * 2.0, 6.0], [x + sign(side) * 5.5, 16.0]])


def _below_domes(anatomy: Anatomy) -> Points:
    wide, bottom = anatomy.half_width + anatomy.wall, anatomy.lung_height + 30
    right, left = anatomy.dome("right"), anatomy.dome("left")
    corners = np.array(
        [(wide, anatomy.lung_height + 4), (wide, bottom), (-wide, bottom), (-wide, anatomy.lung_height + 4)]
    )
    return np.concatenate([right[::-1], left, corners])


def _paint_belly_gas(drawing: Drawing, rng: np.random.Generator) -> None:
    anatomy, frame = drawing.anatomy, drawing.frame
    gas = []
    if anatomy.bubble > 0:
        center = np.array([anatomy.half_width * rng.uniform(0.32, 0.55), anatomy.dome_levels[1] + anatomy.bubble + 1.0])
        gas.append(ellipse(center, anatomy.bubble * 1.7, anatomy.bubble))
    for _ in range(int(rng.integers(0, 4))):
        center = np.array([rng.uniform(-8, 9), anatomy.lung_height + rng.uniform(2, 9)])
        gas.append(ellipse(center, rng.uniform(0.8, 2.2), rng.uniform(0.6, 1.4)))
    if gas:
        drawing.density -= frame.fill(gas, 0.3) * np.float32(rng.uniform(0.1, 0.2))


def _paint_breasts(drawing: Drawing, rng: np.random.Generator) -> None:
    anatomy = drawing.anatomy
    thick = rng.uniform(0.05, 0.12)
    level = anatomy.lung_height * rng.uniform(0.62, 0.8)
    if anatomy.breast <= 0:
        return
    outlines = [
        ellipse(np.array([sign(side) * anatomy.half_width * 0.58, level]), anatomy.breast * 1.05, anatomy.breast)
        for side in SIDES
    ]
    cover = drawing.frame.fill(outlines, 0.25)
    drawing.density += np.float32(thick) * (0.4 * cover + 0.6 * drawing.frame.soften(cover, 1.6))


def _paint_vessels(drawing: Drawing, rng: np.random.Generator) -> None:
    anatomy, frame = drawing.anatomy, drawing.frame
    hila: list[Points] = []
    hilar_widths: list[float] = []
    starts, headings = [], []
    for side in SIDES:
        center = anatomy.hilum(side)
        fan = np.linspace(-1.25, 1.3, 6) + rng.normal(0, 0.1, 6)
        headings.append(lateral_heading(side) + fan * sign(side))
        starts.append(np.repeat(center[None], len(fan), axis=0))
        reach = 3.6 if side == "right" else 2.6
        curve = np.array([[-1.2, -0.9], [-0.3, -0.4], [0.3, 0.6], [0.4, 1.8], [0.3, reach], [0.2, reach + 1.2]])
        curve = curve * [sign(side), 1]
        wide = float(rng.uniform(0.9, 1.4))
        hila += [center + curve[:4], center + curve[3:5], center + curve[4:], center + curve[:3] * [0.9, -1.1]]
        hilar_widths += [wide, wide * 0.8, wide * 0.5, wide * 0.65]
    roots, turns = np.concatenate(starts), np.concatenate(headings)
    lengths = anatomy.lung_height * rng.uniform(0.15, 0.21, len(roots))
    lines, widths = branches(roots, turns, lengths, rng.uniform(0.38, 0.55, len(roots)), rng, 3)
    values = np.clip(0.35 + widths, 0, 1)
    lungs = drawing.both_lungs()
    drawing.vessels = frame.soften(frame.stroke(lines, widths, values), 0.06) * lungs
    hilar = frame.soften(frame.stroke(hila, hilar_widths), 0.32) * lungs
    drawing.density += drawing.vessels * np.float32(rng.uniform(0.07, 0.17))
    drawing.opacify(hilar, float(rng.uniform(0.3, 0.7)))


def _paint_heart(drawing: Drawing, rng: np.random.Generator) -> None:
    anatomy, frame = drawing.anatomy, drawing.frame
    heart = frame.fill([anatomy.heart_outline()], 0.15)
    great_vessels = frame.fill([anatomy.mediastinum_outline()], 0.15)
    drawing.opacify(heart, 0.88, SOFT_TISSUE + 0.04)
    drawing.density += frame.soften(heart, 2.0) * heart * np.float32(0.05)
    drawing.opacify(great_vessels, 0.8, SOFT_TISSUE + 0.03)
    aorta_x = anatomy.turn + anatomy.mediastinum_half * 0.55
    aorta = np.array([[aorta_x, anatomy.arch_level], [aorta_x + 0.1, anatomy.lung_height]])
    drawing.density += frame.soften(frame.stroke([aorta], [2.2]), 0.15) * np.float32(rng.uniform(0.01, 0.03))
    knob = ellipse(np.array([anatomy.turn + anatomy.mediastinum_half * 0.7, anatomy.arch_level]), 1.3, 1.4)
    drawing.density += frame.fill([knob], 0.2) * np.float32(0.03)
    center = np.array([anatomy.turn * 0.8 - 0.35, anatomy.carina_level])
    bronchi = [
        center + np.array([[0, -0.3], [-1.6, 1.3], [-3.0, 2.2]]),
        center + np.array([[0, -0.3], [2.0, 1.3], [3.6, 1.8]]),
    ]
    drawing.density -= frame.soften(frame.stroke([anatomy.trachea()], [1.7]), 0.15) * np.float32(0.15)
    drawing.density -= frame.soften(frame.stroke(bronchi, [1.1, 1.0]), 0.15) * np.float32(0.09)


def _paint_spine(drawing: Drawing, strength: float) -> None:
    anatomy, frame = drawing.anatomy, drawing.frame
    bodies, pedicles = [], []
    spacing = anatomy.rib_spacing * 1.02
    for level in np.arange(-7 * spacing, anatomy.lung_height + 24, spacing):
        x, tall = float(anatomy.spine_x(level)), spacing * 0.4
        wide = 1.45 + 0.25 * max(level, 0) / anatomy.lung_height
        corners = [(-wide, -tall), (-wide * 0.88, 0), (-wide, tall), (wide, tall), (wide * 0.88, 0), (wide, -tall)]
        bodies.append(moved(corners, x, level))
        pedicles += [ellipse(np.array([x + dx, level - tall * 0.3]), 0.28, 0.4, 8) for dx in (-0.9, 0.9)]
        pedicles.append(ellipse(np.array([x, level + tall * 0.5]), 0.22, 0.6, 8))
    drawing.density += frame.fill(bodies, 0.08) * np.float32(0.07 * strength)
    drawing.density += frame.fill(pedicles, 0.06) * np.float32(0.045 * strength)


def _tube(frame: FilmFrame, lines: list[Points], width: float) -> Layer:
    """Return bones as tubes: bright cortex at the edges, a paler middle."""
    outer = frame.stroke(lines, width)
    inner = frame.stroke(lines, width * 0.55)
    return frame.soften(outer - np.float32(0.4) * inner, 0.05)


def _scapula(anatomy: Anatomy, side: BodySide) -> Points:
    inner = anatomy.half_width + 0.6 - anatomy.scapula_overlap
    corners = [
        (inner, 2.0),
        (inner + 0.3, 7.0),
        (inner + 2.4, 13.0),
        (inner + 4.2, 8.0),
        (inner + 6.0, 2.5),
        (inner + 3, 1),
    ]
    return np.array([(sign(side) * x, y) for x, y in corners])
