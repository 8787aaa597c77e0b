"""Train the joint stage."""

from __future__ import annotations

from prefect import flow

from crrg.config.references import StageResult
from crrg.config.training import TrainStageConfig
from crrg.operations.summaries import stage_markdown
from flows.pages import show_page
from tasks.policy import FLOW
from tasks.training import fit_joint


@flow(flow_run_name="train-joint-{config.dataset}-{config.preset}", **FLOW)
def train_joint(config: TrainStageConfig = TrainStageConfig()) -> StageResult:
    """Train CLIP on reports mixed with drafts of the training films; the stages before it are reused or trained first.

    Args:
        config: Dataset, size, length, seed and device.
    """
    result = fit_joint(config)
    show_page(stage_markdown(result), "train-joint")
    return result
