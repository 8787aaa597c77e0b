"""The body behind a drawn film: its measures and outlines in centimetres.

The patient frame has its origin on the midline at the level of the lung apices, x to the patient's left (right on the
film) and y towards the feet. ``film_frame`` maps it to pixels, ``region_geometry`` derives the 29 boxes; nothing here
knows of grey values. Measures of a patient stay the same over that patient's studies, pose and findings change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crrg.data.phantom.scene import Scene
from crrg.domain.study import ViewPosition

Points: TypeAlias = NDArray[np.floating[Any]]
BodySide = Literal["right", "left"]
SIDES: tuple[BodySide, BodySide] = ("right", "left")

PATIENT_STREAM, POSE_STREAM, PAINT_STREAM = 11, 12, 13
"""Independent streams of random numbers: the patient's body, the pose of one study, the painting of one film."""

_LATERAL_T = np.array([-0.005, 0.0, 0.02, 0.06, 0.13, 0.25, 0.42, 0.62, 0.82, 1.0])
_LATERAL_X = np.array([0.36, 0.42, 0.52, 0.62, 0.72, 0.83, 0.93, 0.99, 1.0, 0.985])
_MEDIAL_T = np.array([-0.005, 0.0, 0.02, 0.06, 0.15, 0.3, 1.0])
_MEDIAL_X = np.array([0.36, 0.31, 0.24, 0.17, 0.13, 0.12, 0.12])


@dataclass(frozen=True)
class Anatomy:
    """Measures of one patient in one pose; lengths in cm unless said otherwise.

    Attributes:
        half_width: Inner half width of the chest at its widest.
        lung_height: From apex to costophrenic angle.
        wall: Thickness of the soft tissue outside the ribs.
        spine_bend: Sideways bow of the spine, positive to the patient's left.
        turn: Sideways shift of heart and mediastinum by a turned patient.
        mediastinum_half: Half width of the upper mediastinum.
        aortic_knob: How far the aortic arch bulges to the left.
        heart_width: Transverse diameter of the heart.
        heart_left_share: Share of ``heart_width`` to the left of the midline, 0..1.
        heart_top: Level of the upper border of the heart.
        dome_levels: Levels of the right and left diaphragm domes.
        clavicle_level: Level of the medial clavicle ends.
        clavicle_rise: How much higher the lateral ends lie.
        rib_spacing: Distance between ribs at the spine.
        rib_drop: How far a posterior rib falls from spine to chest wall.
        rib_width: Width of a rib.
        carina_level: Level of the tracheal bifurcation.
        scapula_overlap: How far the scapulae project over the lungs; large on AP films.
        breast: Size of the breast shadows; 0 for none.
        bubble: Size of the stomach's air bubble; 0 for none.
        asymmetry: Relative difference in width of the two lungs.
    """

    half_width: float
    lung_height: float
    wall: float
    spine_bend: float
    turn: float
    mediastinum_half: float
    aortic_knob: float
    heart_width: float
    heart_left_share: float
    heart_top: float
    dome_levels: tuple[float, float]
    clavicle_level: float
    clavicle_rise: float
    rib_spacing: float
    rib_drop: float
    rib_width: float
    carina_level: float
    scapula_overlap: float
    breast: float
    bubble: float
    asymmetry: float

    def side_width(self, side: BodySide) -> float:
        """Return the inner half width of one side of the chest."""
        return self.half_width * (1 + (self.asymmetry if side == "left" else -self.asymmetry))

    def lateral_x(self, side: BodySide, level: float | Points) -> Points:
        """Return x of the chest's inner lateral border at given levels."""
        fraction = np.interp(np.asarray(level) / self.lung_height, _LATERAL_T, _LATERAL_X)
        return np.asarray(sign(side) * self.side_width(side) * fraction)

    def medial_x(self, side: BodySide, level: float | Points) -> Points:
        """Return x of the lung's medial border at given levels."""
        fraction = np.interp(np.asarray(level) / self.lung_height, _MEDIAL_T, _MEDIAL_X)
        return np.asarray(sign(side) * self.half_width * fraction + self.turn)

    def dome(self, side: BodySide) -> Points:
        """Return the diaphragm of one side from the midline to the costophrenic angle, ``[25, 2]``."""
        level = self.dome_levels[SIDES.index(side)]
        u = np.linspace(0, 1, 25)
        medial, lateral = self.medial_x(side, self.lung_height), self.lateral_x(side, self.lung_height)
        outer = np.clip((u - 0.42) / 0.58, 0, 1) ** 2.1 * (self.lung_height - level)
        inner = np.clip((0.42 - u) / 0.42, 0, 1) ** 2 * 0.06 * self.lung_height
        return np.stack([medial + u * (lateral - medial), level + outer + inner], axis=1)

    def lung_outline(self, side: BodySide) -> Points:
        """Return the closed outline of a lung, the part behind heart and dome edge included, ``[N, 2]``."""
        levels = np.concatenate([np.linspace(-0.005, 0.13, 12), np.linspace(0.17, 1.0, 20)]) * self.lung_height
        lateral = np.stack([self.lateral_x(side, levels), levels], axis=1)
        dome = self.dome(side)
        down = levels[levels < dome[0, 1]]
        medial = np.stack([self.medial_x(side, down), down], axis=1)
        return np.concatenate([lateral, dome[::-1], medial[::-1]])

    def zone_outline(self, side: BodySide, top: float, bottom: float) -> Points:
        """Return the outline of the lung between two levels given as shares of the lung's height, ``[N, 2]``."""
        levels = np.linspace(top, bottom, 12) * self.lung_height
        lateral = np.stack([self.lateral_x(side, levels), levels], axis=1)
        medial = np.stack([self.medial_x(side, levels), levels], axis=1)
        if bottom < 1:
            return np.concatenate([lateral, medial[::-1]])
        dome = self.dome(side)
        return np.concatenate([lateral, dome[::-1], medial[: max(1, int((levels < dome[0, 1]).sum()))][::-1]])

    def hilum(self, side: BodySide) -> Points:
        """Return the centre of a hilum, ``[2]``; the left one lies a little higher."""
        level = self.carina_level + (1.6 if side == "right" else 1.0)
        return np.array([sign(side) * (self.mediastinum_half + 0.9) + self.turn, level])

    def heart_outline(self) -> Points:
        """Return the closed outline of the heart, ``[N, 2]``."""
        left, right = self.heart_width * self.heart_left_share, self.heart_width * (1 - self.heart_left_share)
        top, bottom = self.heart_top, max(self.dome_levels) + 0.6
        tall, half = bottom - top, self.mediastinum_half
        control = [
            (-half * 0.9, top),
            (-max(half, right * 0.86), top + 0.33 * tall),
            (-right, top + 0.62 * tall),
            (-right * 0.82, bottom - 0.08 * tall),
            (-right * 0.2, bottom),
            (left * 0.6, bottom + 0.03 * tall),
            (left * 0.95, bottom - 0.08 * tall),
            (left, bottom - 0.24 * tall),
            (left * 0.9, bottom - 0.46 * tall),
            (max(half * 1.05, left * 0.62), top + 0.25 * tall),
            (half * 1.0, top),
        ]
        return smooth_closed(moved(control, self.turn, 0))

    def mediastinum_outline(self) -> Points:
        """Return the closed outline of the great vessels and the upper mediastinum, ``[N, 2]``."""
        half, knob, tall = self.mediastinum_half, self.aortic_knob, self.lung_height
        arch = self.arch_level
        right = [(-half * 0.75, -3.5), (-half * 0.78, 0.05 * tall), (-half * 0.95, arch), (-half, self.heart_top + 3)]
        left = [
            (half * 0.9, self.heart_top + 3),
            (half * 1.12, self.carina_level + 1.8),
            (half * 0.98, arch + knob + 0.9),
            (half * 0.8 + knob, arch + 0.35),
            (half * 0.8 + knob * 0.85, arch - 0.75),
            (half * 0.78, arch - knob - 1.0),
            (half * 0.72, -3.5),
        ]
        return smooth_closed(moved(right + left, self.turn, 0))

    @property
    def arch_level(self) -> float:
        """Level of the middle of the aortic arch."""
        return self.carina_level - 2.2

    def spine_x(self, level: float | Points) -> Points:
        """Return x of the spine's middle at given levels."""
        return np.asarray(self.spine_bend * np.sin(np.pi * np.asarray(level) / self.lung_height))

    def clavicle(self, side: BodySide) -> Points:
        """Return the middle line of a clavicle from its medial to its lateral end, ``[16, 2]``."""
        u = np.linspace(0, 1, 16)
        start = sign(side) * 1.7 + self.turn * 0.8
        x = start + u * (sign(side) * (self.side_width(side) + 0.6) - start)
        bow = 0.5 * np.sin(2 * np.pi * u)
        return np.stack([x, self.clavicle_level - self.clavicle_rise * u**1.3 + bow], axis=1)

    def trachea(self, num: int = 12) -> Points:
        """Return the middle line of the trachea from the neck to the carina, ``[num, 2]``."""
        level = np.linspace(-3.2, self.carina_level, num)
        return np.stack([self.turn * 0.8 - 0.35 * np.clip(level / self.carina_level, 0, 1), level], axis=1)

    def posterior_rib(self, number: int, side: BodySide) -> Points:
        """Return the middle line of a posterior rib (``number`` from 0) from the spine outwards, ``[N, 2]``.

        It ends where the chest wall ends, so low ribs have fewer than the 20 points of the others.
        """
        u = np.linspace(0, 1, 20)
        root = 0.2 + number * self.rib_spacing
        drop = self.rib_drop * (0.25 + 0.09 * number)
        level = root - 0.9 * np.sin(np.pi * np.clip(u * 1.7, 0, 1)) + drop * u**1.9
        start = self.spine_x(root) + sign(side) * 1.6
        end = self.lateral_x(side, np.clip(root + drop, 0, self.lung_height))
        line = np.stack([start + (end - start) * np.sin(u * np.pi / 2) ** 0.92, level], axis=1)
        return line[: max(4, int((level < self.lung_height * 1.01).sum()))]

    def anterior_rib(self, number: int, side: BodySide) -> Points:
        """Return the middle line of an anterior rib from the chest wall to its cartilage, ``[16, 2]``."""
        root = 0.2 + number * self.rib_spacing + self.rib_drop * (0.25 + 0.09 * number)
        wall = self.lateral_x(side, np.clip(root, 0, self.lung_height))
        u = np.linspace(0, 1, 16)
        end = sign(side) * (2.6 + 0.5 * number) + self.turn
        level = root + (2.2 + 0.35 * number) * np.sin(u * np.pi / 2)
        return np.stack([wall + (end - wall) * (1 - np.cos(u * np.pi / 2)) ** 0.9, level], axis=1)

    def torso_outline(self, bottom: float) -> Points:
        """Return the skin outline from the neck to a level ``bottom``, ``[N, 2]``."""
        outline: list[tuple[float, float]] = []
        for side in SIDES:
            wide = self.half_width + self.wall
            half = [
                (5.2, -18.0),
                (5.0, -8.0),
                (6.2, -5.2),
                (wide * 0.8, -3.4),
                (wide + 3.4, -1.4),
                (wide + 6.4, 3.0),
                (wide + 10.0, 12.0),
                (wide + 6.6, 13.0),
                (wide + 2.2, 0.36 * self.lung_height),
                (wide + 0.6, 0.47 * self.lung_height),
                (wide, 0.7 * self.lung_height),
                (wide * 0.99, bottom),
            ]
            mirrored = [(sign(side) * x, y) for x, y in half]
            outline += mirrored if side == "right" else mirrored[::-1]
        return smooth_closed(np.array(outline), 5)


def sign(side: BodySide) -> int:
    """Return -1 for the patient's right (left on the film) and 1 for the left."""
    return -1 if side == "right" else 1


def moved(points: Points | Sequence[tuple[float, float]], x: float, y: float) -> Points:
    """Return points ``[..., 2]`` shifted by ``(x, y)`` cm."""
    return np.asarray(np.asarray(points, dtype=float) + np.array([x, y]))


def smooth_closed(control: Points, per_segment: int = 8) -> Points:
    """Return a closed Catmull-Rom curve through control points ``[N, 2]``, ``[N * per_segment, 2]``."""
    t = np.linspace(0, 1, per_segment, endpoint=False)[None, :, None]
    p0, p1 = np.roll(control, 1, axis=0)[:, None], control[:, None]
    p2, p3 = np.roll(control, -1, axis=0)[:, None], np.roll(control, -2, axis=0)[:, None]
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    return np.asarray(curve).reshape(-1, 2)


def build_anatomy(scene: Scene, seed: int) -> Anatomy:
    """Return the body of a scene's patient in this study's pose, changed by its findings.

    Args:
        scene: What is to be drawn.
        seed: Seed of the cohort.
    """
    body = np.random.default_rng(np.random.SeedSequence([seed, PATIENT_STREAM, scene.patient_number]))
    pose = np.random.default_rng(np.random.SeedSequence([seed, POSE_STREAM, scene.index]))
    is_ap = scene.view_position is ViewPosition.AP
    half_width = body.normal(13.2, 0.9) * (0.95 if scene.sex == "F" else 1.03)
    full_height = half_width * body.uniform(1.62, 2.08)
    inspiration = np.clip(pose.normal(0.93 if is_ap else 0.985, 0.05), 0.78, 1.08)
    height = float(full_height * inspiration)
    cardiothoracic = body.uniform(0.4, 0.49) * (1.05 if is_ap else 1.0) / inspiration**0.3
    carina = height * body.uniform(0.29, 0.34)
    dome_right = height * body.uniform(0.8, 0.87)
    breast = body.uniform(3.2, 6.5) if scene.sex == "F" else 0.0
    measures = Anatomy(
        half_width=float(half_width),
        lung_height=height,
        wall=float(body.gamma(4.0, 0.55) + 0.9),
        spine_bend=float(body.normal(0, 0.7)),
        turn=float(np.clip(pose.normal(0, 0.55), -1.4, 1.4)),
        mediastinum_half=float(half_width * body.uniform(0.165, 0.215)),
        aortic_knob=float(body.uniform(0.7, 1.5) + 0.012 * max(0, scene.age_years - 40)),
        heart_width=float(cardiothoracic * 2 * half_width),
        heart_left_share=float(body.uniform(0.6, 0.72)),
        heart_top=float(carina + body.uniform(0.8, 2.0)),
        dome_levels=(float(dome_right), float(dome_right + height * body.uniform(0.0, 0.06))),
        clavicle_level=float(height * (pose.uniform(0.08, 0.15) if not is_ap else pose.uniform(0.02, 0.1))),
        clavicle_rise=float(pose.uniform(0.4, 2.8) if not is_ap else pose.uniform(-0.6, 1.5)),
        rib_spacing=float(height * body.uniform(0.083, 0.094)),
        rib_drop=float(body.uniform(5.0, 8.5)),
        rib_width=float(body.uniform(1.0, 1.35)),
        carina_level=float(carina),
        scapula_overlap=float(pose.uniform(1.5, 4.0) if is_ap else pose.uniform(-2.0, 1.0)),
        breast=float(breast),
        bubble=float(body.uniform(0.8, 2.4) if pose.random() < 0.7 else 0.0),
        asymmetry=float(body.normal(0, 0.02)),
    )
    return _with_findings(measures, scene)


def _with_findings(anatomy: Anatomy, scene: Scene) -> Anatomy:
    """Return the anatomy with the measures that findings change."""
    changes: dict[str, Any] = {}
    domes = list(anatomy.dome_levels)
    for finding in scene.findings:
        if finding.kind == "enlarged_heart":
            ratio = 0.53 + 0.17 * finding.severity
            changes["heart_width"] = max(anatomy.heart_width * 1.11, ratio * 2 * anatomy.half_width)
        elif finding.kind == "widened_mediastinum":
            changes["mediastinum_half"] = anatomy.mediastinum_half * (1.27 + 0.78 * finding.severity)
            changes["aortic_knob"] = anatomy.aortic_knob * (1.1 + 0.4 * finding.severity)
        elif finding.kind == "basal_atelectasis":
            for i, side in enumerate(SIDES):
                if finding.side in (side, "bilateral"):
                    domes[i] -= anatomy.lung_height * (0.03 + 0.09 * finding.severity)
    return replace(anatomy, dome_levels=(domes[0], domes[1]), **changes)
