"""The demo: from nothing to a scored night."""

from __future__ import annotations

from prefect import flow

from crrg.config.references import DemoResult
from crrg.config.running import DemoConfig
from crrg.operations.demo_run import night_form, retrain_form
from flows.ingest import ingest
from flows.nightly import nightly
from flows.pages import show_page
from flows.retrain import retrain
from tasks.data import describe_cohorts, draw_cohort, draw_fresh
from tasks.evaluation import score_fresh, show_demo
from tasks.policy import FLOW


@flow(flow_run_name="demo-{config.preset}-{config.seed}", **FLOW)
def demo(config: DemoConfig = DemoConfig()) -> DemoResult:
    """Draw a cohort, ingest it, train every stage, promote the bundle, run a night over fresh studies, score it.

    Args:
        config: Sizes, seed and preset.
    """
    training_form, fresh_form = describe_cohorts(config)
    draw_cohort(config)
    training = ingest(training_form)
    retraining = retrain(retrain_form(config, training.dataset))
    night = nightly(night_form(config, draw_fresh(config), retraining.promotion))
    fresh = ingest(fresh_form)
    key = score_fresh(config, training.dataset, fresh.dataset, retraining.evaluation.bundle, night)
    result = DemoResult(training=training, retraining=retraining, night=night, scorecard_key=key)
    show_page(show_demo(result), "demo")
    return result
