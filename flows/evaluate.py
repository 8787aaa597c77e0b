"""Score a registered model."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from crrg.config.references import EvaluationResult
from crrg.config.running import EvaluateConfig
from crrg.operations.summaries import evaluation_markdown
from tasks.evaluation import score_model
from tasks.policy import FLOW


@flow(flow_run_name="evaluate-{config.dataset}-{config.split}", **FLOW)
def evaluate(config: EvaluateConfig = EvaluateConfig()) -> EvaluationResult:
    """Score a model on a part of a dataset.

    Args:
        config: Model, dataset, split, number of films and device.
    """
    result = score_model(config)
    create_markdown_artifact(evaluation_markdown(result), key="evaluate")
    return result
