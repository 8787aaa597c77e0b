"""The forms that people and schedules fill in: the one parameter of each flow."""

from __future__ import annotations

from pydantic import BaseModel

from crrg.config.bundling import BundleConfig
from crrg.config.data import IngestConfig
from crrg.config.running import (
    DeliverConfig,
    DemoConfig,
    EvaluateConfig,
    GroundConfig,
    NightlyConfig,
    PromoteConfig,
    RetrainConfig,
)
from crrg.config.training import TrainStageConfig

FORMS: tuple[type[BaseModel], ...] = (
    BundleConfig, DeliverConfig, DemoConfig, EvaluateConfig, GroundConfig, IngestConfig, NightlyConfig, PromoteConfig,
    RetrainConfig, TrainStageConfig,
)  # fmt: skip
