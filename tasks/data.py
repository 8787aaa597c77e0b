"""Bring data in and name its versions."""

from __future__ import annotations

from prefect import task

from crrg.config.running import RetrainConfig
from crrg.operations.retrain import pin_dataset
from crrg.operations.root import open_root
from tasks.policy import TASK


@task(task_run_name="pin-version[{config.dataset}]", **TASK)
def pin_version(config: RetrainConfig) -> RetrainConfig:
    """Write into the form which dataset version it means, so that every stage sees the same rows."""
    storage, _ = open_root()
    return pin_dataset(config, storage)
