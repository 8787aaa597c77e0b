"""What a form of training comes to: preset and recipe, with the form's changes. The one place where they meet.

The result is what a stage is trained with and what its finished result is found by.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from crrg.config.base import FrozenConfig, Stage
from crrg.config.flat import flatten
from crrg.config.overrides import Overrides, changed
from crrg.config.paper import feature_sizes
from crrg.config.presets import stage_training
from crrg.config.stages import ClipTraining, DetectorTraining, GeneratorTraining, LoopConfig, SelectorTraining
from crrg.config.training import TrainStageConfig
from crrg.errors import ConfigError

AnyTraining = TypeVar("AnyTraining", DetectorTraining, SelectorTraining, GeneratorTraining, ClipTraining)
PAPER_FIELDS = {
    "detector": {
        "loop", "augmentation", "architecture.input_size", "architecture.resnet_width", "architecture.anchor_sizes",
        "architecture.anchor_ratios", "architecture.roi_size", "architecture.roi_samples",
        "architecture.representation_size", "architecture.num_proposals", "architecture.num_candidates",
        "architecture.num_training_proposals", "architecture.num_training_rois", "architecture.positive_share",
    },
    "selector": {
        "loop", "augmentation", "architecture.input_size", "architecture.width", "architecture.feature_size",
    },
    "generator": {
        "loop", "num_validation_films", "architecture.num_layers", "architecture.num_heads",
        "architecture.hidden_size", "architecture.vocab_size", "architecture.max_length", "architecture.feature_size",
        "architecture.dropout", "decoding.num_beams", "decoding.length_penalty", "decoding.max_tokens",
        "decoding.no_repeat_ngram", "decoding.num_slots", "decoding.precision", "decoding.compat",
    },
}  # fmt: skip
"""What may be changed of the paper's stages, whole blocks or single fields: what its networks have, and nothing of ours
that they would leave unread. Weights of losses are its own, and its heads know no findings that flags could name."""


def detector_settings(config: TrainStageConfig) -> DetectorTraining:
    """Return the settings of the detector stage.

    Raises:
        ConfigError: The form's changes are out of limits, contradict each other, or are not the recipe's to make.
    """
    _check_recipe(config, config.detector, "detector")
    settings = _filled(stage_training(config.preset, config.recipe).detector, config, config.detector, "detector")
    _check_patience(settings.loop, "detector")
    return settings


def selector_settings(config: TrainStageConfig) -> SelectorTraining:
    """Return the settings of the selector stage; the paper's heads have the sizes of what its detector hands on.

    Raises:
        ConfigError: The form's changes are out of limits, contradict each other, or are not the recipe's to make.
    """
    _check_recipe(config, config.selector, "selector")
    _check_heads_start(config)
    settings = _filled(stage_training(config.preset, config.recipe).selector, config, config.selector, "selector")
    _check_patience(settings.loop, "selector")
    return _behind_detector(settings, config) if config.recipe == "paper" else settings


def generator_settings(config: TrainStageConfig) -> GeneratorTraining:
    """Return the settings of the generator stage.

    Raises:
        ConfigError: The form's changes are out of limits, contradict each other, or are not the recipe's to make.
    """
    _check_recipe(config, config.generator, "generator")
    settings = _filled(stage_training(config.preset, config.recipe).generator, config, config.generator, "generator")
    _check_patience(settings.loop, "generator")
    weights = config.initial_weights
    is_whole_model = weights.generator != "" and weights.generator == weights.detector
    if config.recipe == "paper" and is_whole_model and not weights.selector:
        raise other_import("generator", "selector")
    if settings.lora_rank and not weights.freeze_language_model:
        raise ConfigError(
            "low-rank updates need a frozen imported language model; set "
            "initial_weights.generator and initial_weights.freeze_language_model, or lora_rank to 0",
            "generator.lora_rank",
        )
    reads, given = settings.architecture.feature_size, selector_settings(config).architecture.feature_size
    if not (weights.generator or weights.selector) and reads != given:
        raise ConfigError(
            f"the generator reads features of {reads} values and the selector gives {given}; set "
            "selector.architecture.feature_size and generator.architecture.feature_size to one number",
            "generator.architecture.feature_size",
        )
    return settings


def clip_settings(config: TrainStageConfig) -> ClipTraining:
    """Return the settings of the stages clip and joint.

    Raises:
        ConfigError: The form's changes are out of limits, or contradict each other.
    """
    if config.clip.num_epochs and (config.num_steps or config.clip.loop.num_steps):
        raise ConfigError("epochs and steps both set the length of the training; remove one of them", "clip.num_epochs")
    settings = _filled(stage_training(config.preset, config.recipe).clip, config, config.clip, "clip")
    if not settings.num_epochs:  # a recipe of epochs is scored after each
        _check_patience(settings.loop, "clip")
    return settings


def check_settings(stages: Iterable[Stage], config: TrainStageConfig) -> None:
    """Refuse a form whose changes do not go together before anything is trained.

    Raises:
        ConfigError: They do not; the message names the field and the way out.
    """
    for stage in stages:
        _SETTINGS[stage](config)


def keep_changes(changes: Overrides, architecture: FrozenConfig, block: str) -> None:
    """Refuse changes of an architecture that imported weights have overruled.

    Args:
        changes: Of the form.
        architecture: What is going to be trained.
        block: Name of the block in the form.

    Raises:
        ConfigError: A field is not what the form says.
    """
    found = dict(architecture)
    lost = [
        f"{name} is {value} in the form and {found[name]}"
        for name, value in changes.given().items()
        if value != found[name]
    ]
    if lost:
        raise ConfigError(
            f"{', '.join(lost)} in the imported weights; remove it from the form, or start from other weights", block
        )


def other_import(part: str, reads: str) -> ConfigError:
    """Return the refusal of imported weights behind a part that does not start from their import.

    Args:
        part: What starts from imported weights.
        reads: The part whose features these have learnt to read.
    """
    return ConfigError(
        f"the imported {part} reads the features of the {reads} it was trained with, and this {reads} does not start "
        f"from the same import; set initial_weights.{reads} to that folder as well, or leave initial_weights.{part} "
        "empty",
        f"initial_weights.{part}",
    )


def _filled(preset: AnyTraining, config: TrainStageConfig, changes: Overrides, block: str) -> AnyTraining:
    """Return a stage's settings of preset and recipe with the form's loop and block of changes."""
    return changed(preset.model_copy(update={"loop": config.loop(preset.loop)}), changes, block)


def _check_recipe(config: TrainStageConfig, changes: Overrides, stage: str) -> None:
    """Refuse changes of what the paper's stages do not have."""
    if config.recipe != "paper":
        return
    known = PAPER_FIELDS[stage]
    unknown = [name for name in flatten(changes.given()) if known.isdisjoint((name, name.partition(".")[0]))]
    if unknown:
        raise ConfigError(
            f"the recipe `paper` has no {', '.join(unknown)}; it knows {', '.join(sorted(known))}; remove it, or use "
            "the recipe `crrg`",
            f"{stage}.{unknown[0]}",
        )


def _check_heads_start(config: TrainStageConfig) -> None:
    """Refuse imported heads for our selector, and for the paper's behind a detector that is not theirs."""
    weights = config.initial_weights
    if not weights.selector:
        return
    if config.recipe != "paper":
        raise ConfigError(
            "the selector of the recipe `crrg` has a network of its own, which no import has; leave "
            "initial_weights.selector empty, or use the recipe `paper`",
            "initial_weights.selector",
        )
    if not weights.detector:
        raise other_import("selector", "detector")


def _behind_detector(settings: SelectorTraining, config: TrainStageConfig) -> SelectorTraining:
    """Return the paper's heads with the sizes of the form's detector; an imported one brings its own, known later."""
    finder = detector_settings(config).architecture
    sizes = feature_sizes(finder)
    given = {} if config.initial_weights.detector else config.selector.architecture.given()
    for name, size in sizes.items():
        if given.get(name, size) != size:
            raise ConfigError(
                f"it is {given[name]} in the form, and the detector (resnet_width {finder.resnet_width}, input_size "
                f"{finder.input_size}) hands on {size}; remove it, or set the detector's sizes to suit it",
                f"selector.architecture.{name}",
            )
    return settings.model_copy(update={"architecture": settings.architecture.model_copy(update=sizes)})


def _check_patience(loop: LoopConfig, stage: str) -> None:
    if loop.patience and loop.validate_every > loop.num_steps:
        raise ConfigError(
            f"patience counts validation scores, and there is one alone, after the last of {loop.num_steps} steps; set "
            f"validate_every (now {loop.validate_every}) to fewer steps than that, or patience to 0",
            f"{stage}.loop.patience",
        )
    if loop.patience and not loop.validate_every:
        raise ConfigError(
            "patience counts validation scores; set validate_every as well, or patience to 0", f"{stage}.loop.patience"
        )


_SETTINGS = {
    "detector": detector_settings,
    "selector": selector_settings,
    "generator": generator_settings,
    "clip": clip_settings,
    "joint": clip_settings,
}
