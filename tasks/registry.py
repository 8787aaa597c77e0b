"""Assemble, register and promote bundles."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task

from crrg.config.references import BundleRef, EvaluationResult, PromotionResult, StageResult
from crrg.config.running import PromoteConfig, RetrainConfig
from crrg.operations.registry.assemble import assemble_fused, register_bundle
from crrg.operations.registry.promote import gate_and_promote, promote
from crrg.operations.root import open_root
from tasks.policy import TASK, gpu_slot, run_tags


@task(task_run_name="assemble-stages[{config.dataset}]", **TASK)
def assemble_stages(stages: Sequence[StageResult], config: RetrainConfig) -> BundleRef:
    """Put the finished stages into one bundle folder, with the classifier that fuses what they say."""
    storage, _ = open_root()
    with gpu_slot(config.device):
        return assemble_fused(stages, config, storage)


@task(task_run_name="register-candidate[{evaluation.bundle.bundle_id}]", **TASK)
def register_candidate(evaluation: EvaluationResult) -> EvaluationResult:
    """Register an evaluated bundle as a version of ``crrg-pipeline``."""
    storage, settings = open_root()
    registered = register_bundle(evaluation, storage, settings, tags=run_tags())
    return evaluation.model_copy(update={"bundle": registered})


@task(task_run_name="decide-promotion[{evaluation.bundle.model_version}]", **TASK)
def decide_promotion(evaluation: EvaluationResult, config: RetrainConfig) -> PromotionResult:
    """Check a candidate against its gate and the champion, and promote it if it passes."""
    storage, settings = open_root()
    return gate_and_promote(evaluation, config, storage, settings)


@task(task_run_name="move-champion[{config.version}]", **TASK)
def move_champion(config: PromoteConfig) -> PromotionResult:
    """Move the champion alias to a version that has passed its gate, or back."""
    storage, settings = open_root()
    return promote(config, storage, settings)
