"""Bring data in and name its versions."""

from __future__ import annotations

from prefect import task

from crrg.config.running import RetrainConfig
from crrg.operations.retrain import pin_dataset
from tasks.policy import TASK, root


@task(task_run_name="pin-version[{config.dataset}]", **TASK)
def pin_version(config: RetrainConfig) -> RetrainConfig:
    """Write into the form which dataset version it means, so that every stage sees the same rows."""
    storage, _ = root()
    return pin_dataset(config, storage)
