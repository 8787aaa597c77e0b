"""Retrain all stages and let the gate decide about the champion."""

from __future__ import annotations

from prefect import flow

from crrg.config.references import RetrainResult
from crrg.config.running import RetrainConfig
from crrg.operations.summaries import retrain_markdown
from crrg.operations.training.retrain import evaluation_form
from flows.finished import keep
from flows.pages import show_page
from flows.stage import run_stage
from flows.train_clip import train_clip
from flows.train_detector import train_detector
from flows.train_generator import train_generator
from flows.train_joint import train_joint
from flows.train_selector import train_selector
from tasks.data import pin_version
from tasks.evaluation import score_bundle
from tasks.policy import FLOW
from tasks.registry import assemble_stages, decide_promotion, register_candidate


@flow(flow_run_name="retrain-{config.dataset}-{config.preset}", **FLOW)
def retrain(config: RetrainConfig = RetrainConfig()) -> RetrainResult:
    """Train all stages, score their bundle on held-out patients, register it, and promote it if it passes its gate.

    Args:
        config: Dataset, size, length, seed, joint stage, device and gate.
    """
    config = pin_version(config)
    stage_flows = (
        train_detector,
        train_selector,
        train_generator,
        train_clip,
        *([train_joint] if config.joint else []),
    )
    stages = [run_stage(stage, config.stage_config(), config.stages_on) for stage in stage_flows]
    bundle = assemble_stages(stages, config)
    evaluation = register_candidate(score_bundle(bundle, evaluation_form(config)))
    promotion = decide_promotion(evaluation, config)
    result = RetrainResult(stages=tuple(stages), evaluation=evaluation, promotion=promotion)
    keep(result)
    show_page(retrain_markdown(result), "retrain")
    return result
