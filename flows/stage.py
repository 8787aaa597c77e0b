"""Run a training stage in this process, or as its own deployment on another machine."""

from __future__ import annotations

from typing import Any

from prefect import Flow
from prefect.deployments import run_deployment

from crrg.config.references import StageResult
from crrg.config.training import TrainStageConfig

PLACE = "local"


def run_stage(stage: Flow[Any, StageResult], config: TrainStageConfig, stages_on: str) -> StageResult:
    """Run a stage's flow; as a deployment it waits for a worker of the deployment's pool and reads its JSON result."""
    if stages_on == "here":
        return stage(config)
    parameters = {"config": config.model_dump(mode="json")}
    run: Any = run_deployment(f"{stage.name}/{PLACE}", parameters=parameters)
    return StageResult.model_validate(run.state.result())
