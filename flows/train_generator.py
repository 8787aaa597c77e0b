"""Train the generator stage."""

from __future__ import annotations

from prefect import flow

from crrg.config.references import StageResult
from crrg.config.training import TrainStageConfig
from crrg.operations.summaries import stage_markdown
from flows.pages import show_page
from tasks.policy import FLOW
from tasks.training import fit_generator


@flow(flow_run_name="train-generator-{config.dataset}-{config.preset}", **FLOW)
def train_generator(config: TrainStageConfig = TrainStageConfig()) -> StageResult:
    """Train the generator, which words the regions; the stages before it are reused or trained first.

    Args:
        config: Dataset, size, length, seed and device.
    """
    result = fit_generator(config)
    show_page(stage_markdown(result), "train-generator")
    return result
