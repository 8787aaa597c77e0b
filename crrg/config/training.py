"""The form of each training stage's flow, and what it is made of; the settings it changes are in ``stages``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from crrg.config.base import Device, FrozenConfig, Preset, Recipe
from crrg.config.overrides import ClipOverrides, DetectorOverrides, GeneratorOverrides, SelectorOverrides
from crrg.config.stages import Augmentation as Augmentation
from crrg.config.stages import ClipTraining as ClipTraining
from crrg.config.stages import DetectorTraining as DetectorTraining
from crrg.config.stages import GeneratorTraining as GeneratorTraining
from crrg.config.stages import LoopConfig as LoopConfig
from crrg.config.stages import PresetTraining as PresetTraining
from crrg.config.stages import SelectorTraining as SelectorTraining


class JointRounds(FrozenConfig):
    """Rounds of the joint stage, in which CLIP ranks wordings, the generator learns them, and CLIP is trained again.

    Attributes:
        max_rounds: Most rounds; 0 trains CLIP once on reports mixed with drafts, as the paper does.
        num_films: Most training films that are drafted in each round; 0 takes all.
        num_validation_films: Most validation films whose drafts decide whether another round is worth it.
        prefer: ``checked`` takes wordings by CLIP where the labeler finds nothing wrong, ``ranked`` by CLIP alone,
            ``real`` none at all: the generator is trained on with real phrases only, as a control.
        film_flags: Whether drafts' flags are reconciled with the labels of the whole film, in the rounds only.
        generator_steps: Steps of the generator in each round.
        learning_rate: Highest learning rate of these steps.
        preferred_share: Share of these steps that are made of preferred phrases.
        min_gain: A round that gains no more than this over the best one before is the last.
    """

    max_rounds: int = Field(0, ge=0, le=20, title="Rounds (0 = paper's coupling)", json_schema_extra={"position": 0})
    num_films: int = Field(512, ge=0, title="Films per round (0 = all)", json_schema_extra={"position": 1})
    num_validation_films: int = Field(200, ge=1, title="Validation films", json_schema_extra={"position": 2})
    prefer: Literal["checked", "ranked", "real"] = Field(
        "checked", title="Preferred phrases", json_schema_extra={"position": 3}
    )
    film_flags: bool = Field(False, title="Flags of the whole film", json_schema_extra={"position": 4})
    generator_steps: int = Field(60, ge=1, title="Generator steps", json_schema_extra={"position": 5})
    learning_rate: float = Field(1e-4, gt=0, le=1, title="Learning rate", json_schema_extra={"position": 6})
    preferred_share: float = Field(0.5, ge=0, le=1, title="Share of preferred", json_schema_extra={"position": 7})
    min_gain: float = Field(0.0, ge=0, le=1, title="Least gain", json_schema_extra={"position": 8})


class InitialWeights(FrozenConfig):
    """Imported weights that stages start from, as folders that `crrg import` wrote, on the machine that trains.

    Weights of a whole stage bring their architecture with them, those of a language model or text tower its sizes and
    vocabulary. Each stage looks at its own fields.

    Attributes:
        detector: Folder of `rgrg`, or of `resnet50` for the backbone; empty starts from random weights.
        selector: Folder of `rgrg` for the heads of the recipe ``paper``, whose detector then starts from the same
            folder; empty starts from random weights.
        generator: Folder of `rgrg`, or of `gpt2` for the language model; empty starts from random weights. With the
            recipe ``paper``, `rgrg` is taken only where detector and selector start from it as well.
        clip: Folder of `cxr-clip` or `chexzero`, or of `resnet50` for the image tower; empty starts from random ones.
        text_tower: Folder of `bert` for the text tower of the CLIP stages; empty starts from random weights, unless the
            folder before brings one.
        freeze_language_model: Whether the language model stays as it was imported and only what conditions it learns,
            and `lora_rank` of the generator's block beside it.
    """

    detector: str = Field("", title="Detector", json_schema_extra={"position": 0})
    selector: str = Field("", title="Selector", json_schema_extra={"position": 1})
    generator: str = Field("", title="Generator", json_schema_extra={"position": 2})
    clip: str = Field("", title="CLIP or its image tower", json_schema_extra={"position": 3})
    text_tower: str = Field("", title="Text tower", json_schema_extra={"position": 4})
    freeze_language_model: bool = Field(False, title="Freeze language model", json_schema_extra={"position": 5})

    @model_validator(mode="after")
    def _frozen_is_imported(self) -> Self:
        if self.freeze_language_model and not self.generator:
            raise ValueError("only an imported language model can be frozen; give its folder as generator")
        return self


class TrainStageConfig(FrozenConfig):
    """Form of one training stage.

    Attributes:
        dataset: Dataset to train on.
        dataset_version: Its version; empty takes the newest.
        preset: Size of the networks and length of the training.
        rounds: Rounds of the joint stage; the other stages have none.
        num_steps: Optimiser steps; 0 takes the preset's.
        learning_rate: Highest learning rate; 0 takes the preset's.
        seed: Seed of weights, order and augmentation.
        device: Where to train; ``auto`` takes a GPU if there is one.
        accumulate: Batches per optimiser step; 0 takes the preset's. What is known of them counts as in one batch.
        ema_decay: Decay of a moving average of the weights, which is kept instead of the last ones; 0 = none.
        validate_every: Steps between scores on validation films, the best of which decides what is kept; 0 = the last.
        patience: Scores without a better one after which the stage ends early; 0 = never.
        recipe: Whose networks learn, and how: ``crrg`` is ours, ``paper`` that of RGRG (detector, selector and
            generator, which learn on together) and of CXR-CLIP (clip, joint), with ``base`` at their sizes, otherwise
            at the preset's.
        initial_weights: Imported weights to start from instead of random ones.
        num_ranks: Processes that train together, each with batches of the preset's size, and with a GPU of its own
            where there are any; for detector and clip.
        sync_normalisation: Whether batch normalisation takes its statistics over all ranks; on GPUs only, on CPUs
            frozen normalisation is the way.
        freeze_normalisation: Whether batch normalisation keeps the statistics and weights it starts with, as suits
            imported weights and small batches.
        detector: Changes of the detector stage; ``None`` keeps what preset and recipe say. Changes of its
            loop go before the fields above.
        selector: Changes of the selector stage; ``None`` keeps what preset and recipe say.
        generator: Changes of the generator stage; ``None`` keeps what preset and recipe say.
        clip: Changes of the stages clip and joint; ``None`` keeps what preset and recipe say.
    """

    dataset: str = Field("demo", title="Dataset", min_length=1, json_schema_extra={"position": 0})
    preset: Preset = Field("tiny", title="Preset", json_schema_extra={"position": 1})
    num_steps: int = Field(0, ge=0, le=10_000_000, title="Steps (0 = preset)", json_schema_extra={"position": 2})
    learning_rate: float = Field(0.0, ge=0, le=1, title="Learning rate (0 = preset)", json_schema_extra={"position": 3})
    seed: int = Field(0, ge=0, title="Seed", json_schema_extra={"position": 4})
    device: Device = Field("auto", title="Device", json_schema_extra={"position": 5})
    dataset_version: str = Field("", title="Dataset version (empty = newest)", json_schema_extra={"position": 6})
    accumulate: int = Field(0, ge=0, le=1024, title="Batches per step (0 = preset)", json_schema_extra={"position": 7})
    ema_decay: float = Field(0.0, ge=0, lt=1, title="Averaging of weights (0 = off)", json_schema_extra={"position": 8})
    validate_every: int = Field(0, ge=0, title="Validate every (steps, 0 = end)", json_schema_extra={"position": 9})
    patience: int = Field(0, ge=0, title="Patience (scores, 0 = off)", json_schema_extra={"position": 10})
    rounds: JointRounds = Field(JointRounds(), title="Joint rounds", json_schema_extra={"position": 11})
    recipe: Recipe = Field("crrg", title="Recipe", json_schema_extra={"position": 12})
    initial_weights: InitialWeights = Field(
        InitialWeights(), title="Weights to start from", json_schema_extra={"position": 13}
    )
    num_ranks: int = Field(1, ge=1, le=64, title="Ranks", json_schema_extra={"position": 14})
    sync_normalisation: bool = Field(
        False, title="Batch normalisation across ranks", json_schema_extra={"position": 15}
    )
    freeze_normalisation: bool = Field(False, title="Freeze batch normalisation", json_schema_extra={"position": 16})
    detector: DetectorOverrides = Field(DetectorOverrides(), title="Detector stage", json_schema_extra={"position": 17})
    selector: SelectorOverrides = Field(SelectorOverrides(), title="Selector stage", json_schema_extra={"position": 18})
    generator: GeneratorOverrides = Field(
        GeneratorOverrides(), title="Generator stage", json_schema_extra={"position": 19}
    )
    clip: ClipOverrides = Field(ClipOverrides(), title="CLIP stages", json_schema_extra={"position": 20})

    @model_validator(mode="after")
    def _patience_has_scores(self) -> TrainStageConfig:
        if self.patience and not self.validate_every:
            raise ValueError("patience counts validation scores; set validate_every as well, or patience to 0")
        return self

    @model_validator(mode="after")
    def _ranks_share_statistics(self) -> TrainStageConfig:
        if self.sync_normalisation and self.num_ranks == 1:
            raise ValueError("one rank has no statistics to share; set num_ranks, or sync_normalisation to false")
        return self

    def loop(self, preset_loop: LoopConfig) -> LoopConfig:
        """Return the preset's loop with this form's changes."""
        names = (
            "num_steps", "learning_rate", "accumulate", "ema_decay", "validate_every", "patience",
            "freeze_normalisation",
        )  # fmt: skip
        changes = {name: getattr(self, name) for name in names if getattr(self, name)}
        return LoopConfig.model_validate({**preset_loop.model_dump(), **changes})
