"""Train the selector stage."""

from __future__ import annotations

from prefect import flow

from crrg.config.references import StageResult
from crrg.config.training import TrainStageConfig
from crrg.operations.summaries import stage_markdown
from flows.pages import show_page
from tasks.policy import FLOW
from tasks.training import fit_selector


@flow(flow_run_name="train-selector-{config.dataset}-{config.preset}", **FLOW)
def train_selector(config: TrainStageConfig = TrainStageConfig()) -> StageResult:
    """Train the selector, which reads the regions; a detector with the same settings is reused or trained first.

    Args:
        config: Dataset, size, length, seed and device.
    """
    result = fit_selector(config)
    show_page(stage_markdown(result), "train-selector")
    return result
