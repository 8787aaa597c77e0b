"""What may be set about training: the loop, the stages, and the form of each stage's flow."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crrg.config.base import Device, FrozenConfig, Preset
from crrg.config.models import (
    ClipArchitecture,
    DetectorArchitecture,
    GeneratorArchitecture,
    SelectorArchitecture,
)


class LoopConfig(FrozenConfig):
    """Settings of the training loop, the same for every stage.

    Attributes:
        num_steps: Optimiser steps.
        batch_size: Items per step (films, or phrases for the generator).
        learning_rate: Highest learning rate of the schedule.
        weight_decay: AdamW's decay.
        warmup_share: Share of the steps in which the rate rises linearly.
        schedule: ``one_cycle`` and ``cosine`` fall to zero, ``constant`` stays.
        clip_norm: Gradient norm above which gradients are scaled down; 0 = off.
        log_every: Steps between logged losses.
        checkpoint_every_s: Seconds between checkpoints of the full training state.
    """

    num_steps: int = Field(300, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    weight_decay: float = Field(1e-2, ge=0)
    warmup_share: float = Field(0.1, ge=0, le=0.9)
    schedule: Literal["one_cycle", "cosine", "constant"] = "cosine"
    clip_norm: float = Field(1.0, ge=0)
    log_every: int = Field(20, ge=1)
    checkpoint_every_s: float = Field(60.0, gt=0)


class DetectorTraining(FrozenConfig):
    """Detector stage: network and loop."""

    architecture: DetectorArchitecture = DetectorArchitecture()
    loop: LoopConfig = LoopConfig()


class SelectorTraining(FrozenConfig):
    """Selector stage: network, loop and the weights of the positive class (paper: 2.2 and 6.0)."""

    architecture: SelectorArchitecture = SelectorArchitecture()
    loop: LoopConfig = LoopConfig()
    selection_pos_weight: float = Field(2.2, gt=0)
    abnormal_pos_weight: float = Field(6.0, gt=0)


class GeneratorTraining(FrozenConfig):
    """Generator stage: network and loop."""

    architecture: GeneratorArchitecture = GeneratorArchitecture()
    loop: LoopConfig = LoopConfig()


class ClipTraining(FrozenConfig):
    """CLIP stage: towers, loop and the share of the label loss beside the contrastive loss."""

    architecture: ClipArchitecture = ClipArchitecture()
    loop: LoopConfig = LoopConfig()
    label_loss_weight: float = Field(1.0, ge=0)
    contrastive_loss_weight: float = Field(0.5, ge=0)


class PresetTraining(FrozenConfig):
    """All four stages at one size."""

    detector: DetectorTraining
    selector: SelectorTraining
    generator: GeneratorTraining
    clip: ClipTraining


class TrainStageConfig(FrozenConfig):
    """Form of one training stage.

    Attributes:
        dataset: Dataset to train on.
        preset: Size of the networks and length of the training.
        num_steps: Optimiser steps; 0 takes the preset's.
        learning_rate: Highest learning rate; 0 takes the preset's.
        seed: Seed of weights, order and augmentation.
        device: Where to train; ``auto`` takes a GPU if there is one.
    """

    dataset: str = Field("demo", title="Dataset", min_length=1, json_schema_extra={"position": 0})
    preset: Preset = Field("tiny", title="Preset", json_schema_extra={"position": 1})
    num_steps: int = Field(0, ge=0, le=10_000_000, title="Steps (0 = preset)", json_schema_extra={"position": 2})
    learning_rate: float = Field(0.0, ge=0, le=1, title="Learning rate (0 = preset)", json_schema_extra={"position": 3})
    seed: int = Field(0, ge=0, title="Seed", json_schema_extra={"position": 4})
    device: Device = Field("auto", title="Device", json_schema_extra={"position": 5})

    def loop(self, preset_loop: LoopConfig) -> LoopConfig:
        """Return the preset's loop with this form's changes."""
        changes: dict[str, float] = {}
        if self.num_steps:
            changes["num_steps"] = self.num_steps
        if self.learning_rate:
            changes["learning_rate"] = self.learning_rate
        return LoopConfig.model_validate({**preset_loop.model_dump(), **changes})
