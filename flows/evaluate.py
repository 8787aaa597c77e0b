"""Score a registered model."""

from __future__ import annotations

from prefect import flow

from crrg.config.references import EvaluationResult
from crrg.config.running import EvaluateConfig
from crrg.operations.summaries import evaluation_markdown
from flows.pages import show_page
from tasks.evaluation import score_model
from tasks.policy import FLOW


@flow(flow_run_name="evaluate-{config.dataset}-{config.split}", **FLOW)
def evaluate(config: EvaluateConfig = EvaluateConfig()) -> EvaluationResult:
    """Score a model on a part of a dataset.

    Args:
        config: Model, dataset, split, number of films and device.
    """
    result = score_model(config)
    show_page(evaluation_markdown(result), "evaluate")
    return result
