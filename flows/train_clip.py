"""Train the clip stage."""

from __future__ import annotations

from prefect import flow

from crrg.config.references import StageResult
from crrg.config.training import TrainStageConfig
from crrg.operations.summaries import stage_markdown
from flows.pages import show_page
from tasks.policy import FLOW
from tasks.training import fit_clip


@flow(flow_run_name="train-clip-{config.dataset}-{config.preset}", **FLOW)
def train_clip(config: TrainStageConfig = TrainStageConfig()) -> StageResult:
    """Train the CLIP stage, which labels films and compares them with texts.

    Args:
        config: Dataset, size, length, seed and device.
    """
    result = fit_clip(config)
    show_page(stage_markdown(result), "train-clip")
    return result
