"""What ``crrg`` might gain: one thing added, and trained whole, with as many trials and seeds as ``crrg`` itself.

A variant has as many parameters as ``crrg`` and gets the same films and CPU seconds; what it costs more per step, it
pays in steps. One more run gets as many steps as the first run of ``crrg`` did. Stages before the first that differs
are those of ``crrg``, with the same seed.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.generation_quality.matching import closest, num_parameters
from crrg.config.models import DetectorArchitecture, GeneratorArchitecture
from crrg.config.training import PresetTraining

PYRAMID_WIDTHS = range(8, 513, 8)


def with_pyramid(ours: PresetTraining) -> PresetTraining:
    """Return ``crrg`` with a feature pyramid so wide that its detector has about as many parameters as before.

    The box head reads the levels as they are: being narrow is what it reduced its map for.
    """
    one_map = ours.detector.architecture

    def pyramid(width: int) -> DetectorArchitecture:
        changes = {"pyramid_channels": width, "roi_channels": 0}
        return DetectorArchitecture.model_validate({**one_map.model_dump(), **changes})

    width = closest(PYRAMID_WIDTHS, lambda width: (pyramid(width),), num_parameters(one_map))
    detector = ours.detector.model_copy(update={"architecture": pyramid(width)})
    return ours.model_copy(update={"detector": detector})


def with_context(ours: PresetTraining) -> PresetTraining:
    """Return ``crrg`` whose phrases know what the rest of their report says; its encoder is small beside the rest."""
    words = GeneratorArchitecture.model_validate(
        {**ours.generator.architecture.model_dump(), "condition_on_report": True}
    )
    return ours.model_copy(update={"generator": ours.generator.model_copy(update={"architecture": words})})


VARIANTS: dict[str, Callable[[PresetTraining], PresetTraining]] = {"pyramid": with_pyramid, "context": with_context}
"""What is added, and how; the variant is called ``crrg + NAME``."""
