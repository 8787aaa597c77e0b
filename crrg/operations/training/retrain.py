"""Retrain: all stages, bundle, scorecard, registration, gate, promotion; the same steps as the flow of that name."""

from __future__ import annotations

from crrg.config.base import Settings
from crrg.config.overrides import changed
from crrg.config.references import DatasetRef, RetrainResult
from crrg.config.resolved import check_settings, generator_settings
from crrg.config.running import EvaluateConfig, RetrainConfig
from crrg.data.dataset.pairs import resolve_dataset
from crrg.operations.registry.assemble import assemble_fused, register_bundle
from crrg.operations.registry.promote import gate_and_promote
from crrg.operations.scoring.evaluate import evaluate_bundle
from crrg.operations.training.train import check_starts, train_stages
from crrg.storage import Storage


def retrain(config: RetrainConfig, storage: Storage, settings: Settings) -> RetrainResult:
    """Train the form's stages, evaluate and register their bundle, and promote it if it passes its gate.

    Args:
        config: Form of the retraining.
        storage: Root with the dataset.
        settings: Name tracking server and registry, if there are any.

    Raises:
        ConfigError: There is no such dataset.
        TrainingError: A stage could not be trained; nothing was registered as a bundle.
    """
    config = pin_dataset(config, storage)
    stages = train_stages(config.stages(), config.stage_config(), storage, settings)
    bundle = assemble_fused(stages, config, storage)
    evaluation = evaluate_bundle(bundle, evaluation_form(config), storage)
    registered = register_bundle(evaluation, storage, settings)
    evaluation = evaluation.model_copy(update={"bundle": registered})
    promotion = gate_and_promote(evaluation, config, storage, settings)
    return RetrainResult(stages=stages, evaluation=evaluation, promotion=promotion)


def pin_dataset(config: RetrainConfig, storage: Storage) -> RetrainConfig:
    """Return the form with the dataset version that it means now, so that every step sees the same rows.

    Raises:
        ConfigError: There is no such dataset, the form contradicts itself in a later stage or its search of drafts, or
            imported weights on this machine do not suit it.
    """
    form = config.stage_config()
    check_settings(config.stages(), form)
    changed(generator_settings(form).decoding, config.decoding, "decoding")
    if config.stages_on == "here":
        check_starts(config.stages(), form)
    dataset: DatasetRef = resolve_dataset(storage, config.dataset, config.dataset_version)
    return config.model_copy(update={"dataset_version": dataset.version})


def evaluation_form(config: RetrainConfig) -> EvaluateConfig:
    """Return the form of the evaluation that decides about a retraining."""
    return EvaluateConfig(
        dataset=config.dataset,
        dataset_version=config.dataset_version,
        split="test",
        limit=config.evaluation_limit,
        device=config.device,
    )
