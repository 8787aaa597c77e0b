"""Pairs of noise with one region each: enough for a stage that is trained for a step or two."""

from __future__ import annotations

import numpy as np

from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, RegionAnnotation, RegionSource, Split, ViewPosition


def noise_pair(number: int, split: Split) -> Pair:
    """Return the pair of a number; pairs of different numbers are of different patients."""
    pixels = np.random.default_rng(number).integers(0, 256, (40, 32), dtype=np.uint8)
    return Pair(
        patient_id=f"p{number}", study_id=f"s{number}", instance_id=f"i{number}",
        film=Film(pixels, 32, 40, ViewPosition.PA, None, False, bytes([number] * 32)), report=Report(findings="Clear."),
        regions=(RegionAnnotation("left lung", (2, 2, 20, 30), "Clear.", False, RegionSource.SCENE_GRAPH),),
        labels={"Edema": number % 2}, label_source="drawn", source="phantom", source_digest=bytes([number] * 32),
        split=split,
    )  # fmt: skip
