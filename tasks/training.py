"""Train one stage."""

from __future__ import annotations

from prefect import task

from crrg.config.references import StageResult
from crrg.config.training import TrainStageConfig
from crrg.operations.root import open_root
from crrg.operations.training.train import train_stage
from tasks.policy import TASK, cancelled_as_such, gpu_slot, run_tags


@task(task_run_name="fit-detector[{config.seed}]", **TASK)
def fit_detector(config: TrainStageConfig) -> StageResult:
    """Train the detector, which finds the 29 regions."""
    storage, settings = open_root()
    with gpu_slot(config.device), cancelled_as_such():
        return train_stage("detector", config, storage, settings, tags=run_tags())


@task(task_run_name="fit-selector[{config.seed}]", **TASK)
def fit_selector(config: TrainStageConfig) -> StageResult:
    """Train the selector, which reads the regions."""
    storage, settings = open_root()
    with gpu_slot(config.device), cancelled_as_such():
        return train_stage("selector", config, storage, settings, tags=run_tags())


@task(task_run_name="fit-generator[{config.seed}]", **TASK)
def fit_generator(config: TrainStageConfig) -> StageResult:
    """Train the generator, which words the regions."""
    storage, settings = open_root()
    with gpu_slot(config.device), cancelled_as_such():
        return train_stage("generator", config, storage, settings, tags=run_tags())


@task(task_run_name="fit-clip[{config.seed}]", **TASK)
def fit_clip(config: TrainStageConfig) -> StageResult:
    """Train the CLIP stage, which labels films and compares them with texts."""
    storage, settings = open_root()
    with gpu_slot(config.device), cancelled_as_such():
        return train_stage("clip", config, storage, settings, tags=run_tags())


@task(task_run_name="fit-joint[{config.seed}]", **TASK)
def fit_joint(config: TrainStageConfig) -> StageResult:
    """Train CLIP on reports mixed with drafts of the training films."""
    storage, settings = open_root()
    with gpu_slot(config.device), cancelled_as_such():
        return train_stage("joint", config, storage, settings, tags=run_tags())
