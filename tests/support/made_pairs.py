"""Rows of a dataset and their films, made by number, for tests of what is written and read back."""

from __future__ import annotations

import numpy as np

from crrg.data.images import pixel_digest
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, RegionAnnotation, RegionSource, Split, ViewPosition


def make_film(width: int = 40, height: int = 30, view: ViewPosition = ViewPosition.PA, seed: int = 0) -> Film:
    """Return a film of noise, stored at half its size; another ``seed`` gives other pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    return Film(
        pixels=pixels,
        original_width=width * 2,
        original_height=height * 2,
        view_position=view,
        pixel_spacing_mm=(0.25, 0.5),
        polarity_inverted=True,
        pixel_digest=pixel_digest(pixels),
    )


def make_pair(index: int, split: Split = Split.TRAIN, film: Film | None = None) -> Pair:
    """Return the row of a number, with two regions where it has a film; other numbers are other patients."""
    return Pair(
        patient_id=f"patient{index}",
        study_id=f"study{index}",
        instance_id=f"instance{index}",
        film=film,
        report=Report(findings=f"Finding number {index}.", impression=None, indication="Cough."),
        regions=(
            RegionAnnotation("right lung", (10.0, 12.0, 30.0, 52.0), "Clear.", False, RegionSource.SCENE_GRAPH),
            RegionAnnotation("trachea", (1.5, 2.0, 3.0, 4.0), None, None, RegionSource.ATLAS),
        )
        if film
        else (),
        labels={"Edema": 1, "Pneumonia": -1, "Fracture": 0},
        label_source="report",
        source="folder",
        source_digest=bytes([index]) * 32,
        split=split,
    )
