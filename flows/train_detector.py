"""Train the detector stage."""

from __future__ import annotations

from prefect import flow

from crrg.config.references import StageResult
from crrg.config.training import TrainStageConfig
from crrg.operations.summaries import stage_markdown
from flows.pages import show_page
from tasks.policy import FLOW
from tasks.training import fit_detector


@flow(flow_run_name="train-detector-{config.dataset}-{config.preset}", **FLOW)
def train_detector(config: TrainStageConfig = TrainStageConfig()) -> StageResult:
    """Train the detector, which finds the 29 regions.

    Args:
        config: Dataset, size, length, seed and device.
    """
    result = fit_detector(config)
    show_page(stage_markdown(result), "train-detector")
    return result
