"""The film while it is being painted: its density and the masks that every painter needs.

Density is 0 for air outside the body and about 0.6 for soft tissue; ``exposure`` turns it into stored values.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crrg.data.phantom.anatomy import Anatomy, BodySide, Points, sign
from crrg.data.phantom.film_frame import FilmFrame, Layer
from crrg.data.phantom.scene import DrawnFinding, Scene

SOFT_TISSUE = 0.62


@dataclass
class Drawing:
    """One film in the making.

    Attributes:
        scene: What is to be drawn.
        anatomy: The body.
        frame: Its place on the film.
        density: ``[H, W]``, changed by every painter.
        lungs: Coverage 0..1 of each aerated lung field ``[H, W]``.
        vessels: Coverage 0..1 of the lung vessels ``[H, W]``.
    """

    scene: Scene
    anatomy: Anatomy
    frame: FilmFrame
    density: Layer
    lungs: dict[BodySide, Layer] = field(default_factory=dict)
    vessels: Layer = field(default_factory=lambda: np.zeros((1, 1), np.float32))

    def opacify(self, cover: Layer, strength: float, level: float = SOFT_TISSUE) -> None:
        """Move the density towards ``level`` where ``cover`` (0..1, ``[H, W]``) lies, never below what was there."""
        self.density += strength * cover * np.maximum(level - self.density, 0)

    def both_lungs(self) -> Layer:
        """Return the coverage of the two lungs together."""
        return np.asarray(np.maximum(self.lungs["right"], self.lungs["left"]))

    def kinds(self, kind: str) -> tuple[DrawnFinding, ...]:
        """Return the findings of one kind."""
        return tuple(finding for finding in self.scene.findings if finding.kind == kind)


def side_of(finding: DrawnFinding) -> BodySide:
    """Return the side of a one-sided finding."""
    return "left" if finding.side == "left" else "right"


def zone_of(finding: DrawnFinding) -> tuple[float, float]:
    """Return the levels, as shares of the lung's height, between which a finding is placed."""
    name = finding.regions[0]
    if "upper" in name or "apical" in name:
        return 0.1, 0.36
    return (0.4, 0.6) if "mid" in name else (0.64, 0.86)


def place_in_zone(drawing: Drawing, finding: DrawnFinding, rng: np.random.Generator, inner: float = 0.35) -> Points:
    """Return a random point ``[2]`` in cm of the finding's zone, lateral of the share ``inner`` of the lung's width."""
    anatomy, side = drawing.anatomy, side_of(finding)
    top, bottom = zone_of(finding)
    level = float(rng.uniform(top, bottom)) * anatomy.lung_height
    medial, lateral = anatomy.medial_x(side, level), anatomy.lateral_x(side, level)
    if inner > 0.3 and side == "left" and bottom > 0.8:
        inner = 0.5
    return np.array([float(medial + rng.uniform(inner, 0.82) * (lateral - medial)), level])


def blob(center: Points, radius: float, rng: np.random.Generator, roughness: float = 0.2, num: int = 18) -> Points:
    """Return an irregular closed outline ``[num, 2]`` around a centre, radius in cm."""
    angle = np.linspace(0, 2 * np.pi, num, endpoint=False)
    waves = [rng.normal(0, roughness / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 5)]
    reach = radius * np.maximum(0.35, 1 + np.sum(waves, axis=0))
    return np.asarray(np.asarray(center) + np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach[:, None])


def ellipse(center: Points, radius_x: float, radius_y: float, num: int = 24) -> Points:
    """Return an ellipse's outline ``[num, 2]`` in cm."""
    angle = np.linspace(0, 2 * np.pi, num, endpoint=False)
    return np.asarray(center) + np.stack([np.cos(angle) * radius_x, np.sin(angle) * radius_y], axis=1)


def branches(
    starts: Points, headings: Points, lengths: Points, widths: Points, rng: np.random.Generator, depth: int
) -> tuple[Points, Points]:
    """Return branching trees as short lines ``[K, 4, 2]`` with their widths ``[K]``, in cm.

    Args:
        starts: Roots ``[M, 2]``.
        headings: Directions of the trunks in radians ``[M]``.
        lengths: Lengths of the trunks ``[M]``.
        widths: Widths of the trunks ``[M]``; every generation is about six tenths as wide.
        rng: Decides bends and angles.
        depth: Generations after the trunk.
    """
    steps = np.linspace(0, 1, 7)[None, :, None]
    all_lines, all_widths = [], []
    for generation in range(depth + 1):
        along = np.stack([np.cos(headings), np.sin(headings)], axis=1)[:, None]
        across = np.stack([-along[..., 1], along[..., 0]], axis=2)
        bend = rng.normal(0, 0.08, len(starts))[:, None, None]
        lines = starts[:, None] + (along * steps + across * bend * steps**2) * lengths[:, None, None]
        all_lines += [lines[:, :4], lines[:, 3:]]
        all_widths += [widths, widths * 0.75]
        if generation == depth:
            break
        turns = rng.uniform(0.15, 0.5, (3, len(starts))) * np.array([[1], [-1], [1.6]])
        turns[2] *= rng.choice([-1, 1], len(starts))
        starts = np.concatenate([lines[:, 6], lines[:, 6], lines[:, 3]])
        headings = (headings + turns).reshape(-1)
        lengths = (lengths * rng.uniform(0.5, 0.8, turns.shape)).reshape(-1)
        widths = (widths * rng.uniform(0.5, 0.68, turns.shape)).reshape(-1)
    return np.concatenate(all_lines), np.concatenate(all_widths)


def lateral_heading(side: BodySide) -> float:
    """Return the heading, in radians, of straight outwards on one side."""
    return 0.0 if sign(side) > 0 else np.pi
