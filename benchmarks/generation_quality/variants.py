"""What ``crrg`` might gain by, or rests on: one thing changed, with as many trials and seeds as ``crrg`` itself.

A variant has about as many parameters as ``crrg`` and gets the same films and CPU seconds; what it costs more per step,
it pays in steps. One more run gets as many steps as the first run of ``crrg`` did. Stages before the first that differs
are those of ``crrg``, with the same seed.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.generation_quality.matching import PARTS, closest, num_parameters
from crrg.config.models import DetectorArchitecture
from crrg.config.training import PresetTraining

WIDTHS = range(8, 513, 8)
BALANCED_SHARE = 0.5
DECAY = 0.99
"""Of averaged weights: those of about a hundred steps, since a stage here has some hundreds to some thousands."""


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
    return _with_architecture(ours, "generator", condition_on_report=True)


def without_region_identity(ours: PresetTraining) -> PresetTraining:
    """Return ``crrg`` whose selector does not know which region it reads, as the paper's."""
    return _with_architecture(ours, "selector", region_embedding=False)


def without_flags(ours: PresetTraining) -> PresetTraining:
    """Return ``crrg`` whose generator is not told what the selector says of a region, as the paper's."""
    return _with_architecture(ours, "generator", condition_on_findings=False)


def with_token_table_positions(ours: PresetTraining) -> PresetTraining:
    """Return ``crrg`` with positions in the token table, as the paper's."""
    return _with_architecture(ours, "generator", position_table="wte")


def with_balanced_films(ours: PresetTraining) -> PresetTraining:
    """Return ``crrg`` whose selector sees, in half of its films, rare findings as often as common ones."""
    return ours.model_copy(update={"selector": ours.selector.model_copy(update={"balanced_share": BALANCED_SHARE})})


def with_averaged_weights(ours: PresetTraining) -> PresetTraining:
    """Return ``crrg`` that keeps a moving average of the weights of each stage."""
    stages = {part: getattr(ours, part) for part in PARTS}
    return ours.model_copy(
        update={
            part: stage.model_copy(update={"loop": stage.loop.model_copy(update={"ema_decay": DECAY})})
            for part, stage in stages.items()
        }
    )


def _with_architecture(ours: PresetTraining, part: str, **changes: object) -> PresetTraining:
    stage = getattr(ours, part)
    architecture = type(stage.architecture).model_validate({**stage.architecture.model_dump(), **changes})
    return ours.model_copy(update={part: stage.model_copy(update={"architecture": architecture})})


VARIANTS: dict[str, Callable[[PresetTraining], PresetTraining]] = {
    "other-maps": with_other_maps,
    "context": with_context,
    "no-region-identity": without_region_identity,
    "no-flags": without_flags,
    "token-table-positions": with_token_table_positions,
    "balanced-films": with_balanced_films,
    "averaged-weights": with_averaged_weights,
}
"""What is changed, and how; the variant is called ``crrg with NAME``."""
