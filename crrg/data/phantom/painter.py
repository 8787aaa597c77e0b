"""Paint a scene: body, findings, bones, devices and exposure, with the exact boxes of the 29 regions.

The picture is described in centimetres and drawn at the asked size: the same scene at another size is the same film
(but for its noise). Painting depends on ``(seed, scene.index)`` and the scene alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crrg.data.phantom.anatomy import PAINT_STREAM, build_anatomy
from crrg.data.phantom.devices import DEVICE_PAINTERS
from crrg.data.phantom.drawing import Drawing
from crrg.data.phantom.exposure import Photometric, expose
from crrg.data.phantom.film_frame import Layer, place_on_film
from crrg.data.phantom.findings_lung import LUNG_PAINTERS
from crrg.data.phantom.findings_pleura import PLEURA_PAINTERS
from crrg.data.phantom.region_geometry import region_boxes
from crrg.data.phantom.scene import DrawnFinding, Scene
from crrg.data.phantom.thorax import paint_bones, paint_soft_tissue
from crrg.domain.boxes import BoxXyxy

_TISSUE, _FINDINGS, _BONES, _EXPOSURE = range(4)


@dataclass(frozen=True)
class PaintedFilm:
    """A finished film.

    Attributes:
        pixels: uint16 ``[H, W]``, 12 bits, in the stored polarity; the longer side is the size asked for.
        photometric: MONOCHROME1 (dense is low) or MONOCHROME2 (dense is high).
        boxes: Region name to ``box_xyxy`` in pixels of the film, all 29.
        pixel_spacing_mm: Side of a pixel in the patient's plane.
        exposure_mean: Mean grey 0..1 that exposure control aimed at.
        exposure_spread: Standard deviation it aimed at.
    """

    pixels: NDArray[np.uint16]
    photometric: Photometric
    boxes: dict[str, BoxXyxy]
    pixel_spacing_mm: float
    exposure_mean: float
    exposure_spread: float


def paint(scene: Scene, seed: int, size: int) -> PaintedFilm:
    """Paint one study's film.

    Args:
        scene: What is to be drawn.
        seed: Seed of the cohort.
        size: Longer side in pixels, at least 32.
    """
    anatomy = build_anatomy(scene, seed)
    frame = place_on_film(anatomy, scene, seed, size)
    drawing = paint_soft_tissue(scene, anatomy, frame, _stream(scene, seed, _TISSUE))
    for _ in _paint_findings(drawing, seed):
        pass
    film = expose(drawing.density, frame, _stream(scene, seed, _EXPOSURE))
    boxes = region_boxes(anatomy, frame).boxes
    return PaintedFilm(film.pixels, film.photometric, boxes, 10 / frame.px_per_cm, film.mean, film.spread)


def finding_covers(scene: Scene, seed: int, size: int) -> list[tuple[DrawnFinding, Layer]]:
    """Return where each finding changes the film, ``[H, W]`` as the change of density.

    Findings that are a shape of the body itself (a large heart, a wide mediastinum) are left out.

    Args:
        scene: What is to be drawn.
        seed: Seed of the cohort.
        size: Longer side in pixels.
    """
    anatomy = build_anatomy(scene, seed)
    frame = place_on_film(anatomy, scene, seed, size)
    drawing = paint_soft_tissue(scene, anatomy, frame, _stream(scene, seed, _TISSUE))
    covers, before = [], drawing.density.copy()
    for finding in _paint_findings(drawing, seed):
        after = drawing.density.copy()
        if finding is not None:
            covers.append((finding, np.abs(after - before)))
        before = after
    return covers


def _paint_findings(drawing: Drawing, seed: int) -> Iterator[DrawnFinding | None]:
    """Paint findings, bones and devices; yield each finding once it is painted, and ``None`` after the bones."""
    scene = drawing.scene
    rng = _stream(scene, seed, _FINDINGS)
    for painters in (LUNG_PAINTERS, PLEURA_PAINTERS):
        for finding in scene.findings:
            if finding.kind in painters:
                painters[finding.kind](drawing, finding, rng)
                yield finding
    paint_bones(drawing, _stream(scene, seed, _BONES))
    yield None
    for finding in scene.findings:
        if finding.kind in DEVICE_PAINTERS:
            DEVICE_PAINTERS[finding.kind](drawing, finding, rng)
            yield finding


def _stream(scene: Scene, seed: int, step: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, PAINT_STREAM, scene.index, step]))
