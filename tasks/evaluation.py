"""Score models."""

from __future__ import annotations

from prefect import task

from crrg.config.references import BundleRef, DatasetRef, DemoResult, EvaluationResult, NightSummary
from crrg.config.running import DemoConfig, EvaluateConfig
from crrg.operations.demo_run import demo_markdown, score_demo
from crrg.operations.root import open_root
from crrg.operations.scoring.evaluate import evaluate, evaluate_bundle
from tasks.policy import TASK, gpu_slot, run_tags


@task(task_run_name="score-model[{config.dataset}]", **TASK)
def score_model(config: EvaluateConfig) -> EvaluationResult:
    """Score a registered model on a part of a dataset."""
    storage, settings = open_root()
    with gpu_slot(config.device):
        return evaluate(config, storage, settings, tags=run_tags())


@task(task_run_name="score-bundle[{bundle.bundle_id}]", **TASK)
def score_bundle(bundle: BundleRef, config: EvaluateConfig) -> EvaluationResult:
    """Score a bundle that is not registered yet."""
    storage, _ = open_root()
    with gpu_slot(config.device):
        return evaluate_bundle(bundle, config, storage)


@task(task_run_name="score-fresh[{fresh.version}]", **TASK)
def score_fresh(
    config: DemoConfig, training: DatasetRef, fresh: DatasetRef, bundle: BundleRef, night: NightSummary
) -> str:
    """Score the demo's night against what was drawn; return the key of the scorecard."""
    storage, _ = open_root()
    with gpu_slot(config.device):
        return score_demo(config, training, fresh, bundle, night, storage)


@task(task_run_name="show-demo[{result.night.date}]", **TASK)
def show_demo(result: DemoResult) -> str:
    """Return what the demo did as Markdown."""
    storage, _ = open_root()
    return demo_markdown(result, storage)
