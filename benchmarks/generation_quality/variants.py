"""What ``crrg`` might gain: one thing changed, and trained whole, with as many trials and seeds as ``crrg`` itself.

A variant has as many parameters as ``crrg`` and gets the same films and CPU seconds; what it costs more per step, it
pays in steps. One more run gets as many steps as the first run of ``crrg`` did. Stages before the first that differs
are those of ``crrg``, with the same seed.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.generation_quality.matching import closest, num_parameters
from crrg.config.models import DetectorArchitecture, GeneratorArchitecture
from crrg.config.training import PresetTraining

WIDTHS = range(8, 513, 8)


def with_other_maps(ours: PresetTraining) -> PresetTraining:
    """Return ``crrg`` with one map where it has a feature pyramid, else with a pyramid, at about as many parameters.

    One map is reduced before boxes are cut out of it; the levels of a pyramid are as narrow from the start.
    """
    architecture = ours.detector.architecture
    changed, left_out = ("pyramid_channels", "roi_channels")[:: -1 if architecture.pyramid_channels else 1]

    def other(width: int) -> DetectorArchitecture:
        return DetectorArchitecture.model_validate({**architecture.model_dump(), changed: width, left_out: 0})

    width = closest(WIDTHS, lambda width: (other(width),), num_parameters(architecture))
    detector = ours.detector.model_copy(update={"architecture": other(width)})
    return ours.model_copy(update={"detector": detector})


def with_context(ours: PresetTraining) -> PresetTraining:
    """Return ``crrg`` whose phrases know what the rest of their report says; its encoder is small beside the rest."""
    words = GeneratorArchitecture.model_validate(
        {**ours.generator.architecture.model_dump(), "condition_on_report": True}
    )
    return ours.model_copy(update={"generator": ours.generator.model_copy(update={"architecture": words})})


VARIANTS: dict[str, Callable[[PresetTraining], PresetTraining]] = {
    "other-maps": with_other_maps,
    "context": with_context,
}
"""What is changed, and how; the variant is called ``crrg with NAME``."""
