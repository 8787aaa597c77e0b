"""Trains the generator: region phrases under the frozen detector's and selector's reading of each film.

Detector and selector run once over all films before the first step. Which phrases make up a batch is
``phrase_batches``' business, how good the drafts are ``generator_scores``'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from crrg.config.models import GeneratorArchitecture
from crrg.config.references import DatasetRef, StageResult
from crrg.config.resolved import generator_settings, keep_changes
from crrg.config.training import GeneratorTraining, TrainStageConfig
from crrg.data.dataset.batches import load_texts
from crrg.data.tokenizer import PhraseTokenizer, train_tokenizer
from crrg.device import resolve_device, seed_everything
from crrg.domain.study import Split
from crrg.errors import TrainingError
from crrg.models.low_rank import low_rank_updates
from crrg.models.report_generator import ReportGenerator
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, config_hash
from crrg.training.generator_scores import clinical_micro_f1, score_generator, tuned
from crrg.training.initial_weights import (
    Start,
    generator_start,
    generator_vocabulary,
    load_generator_start,
    start_parts,
    start_record,
)
from crrg.training.loop import fit
from crrg.training.phrase_batches import NO_PHRASE, PhraseSampler, PhraseTable, add_text_only
from crrg.training.phrase_loss import token_loss
from crrg.training.read_films import ReadFilms, read_films
from crrg.training.report_order import report_order
from crrg.training.tracker import Tracker

CODE_VERSION = "6"
"""Raised when the same settings would train another model, so that a finished run is not reused."""
STAGE = "generator"


def train_generator(
    config: TrainStageConfig,
    dataset: DatasetRef,
    detector: StageResult,
    selector: StageResult,
    storage: Storage,
    tracker: Tracker,
) -> StageResult:
    """Train the generator on a dataset's region phrases, or return the finished result of the same settings.

    Args:
        config: Form of the stage.
        dataset: Dataset version.
        detector: Finished detector; frozen.
        selector: Finished selector; frozen.
        storage: Where ``datasets/`` and ``checkpoints/`` lie.
        tracker: Receives curves and metrics.

    Raises:
        TrainingError: No training film has a region phrase.
        NonFiniteLoss: Training diverged.
    """
    settings, weights = generator_settings(config), config.initial_weights
    settings, start = generator_start(settings, weights.generator, freeze=weights.freeze_language_model)
    keep_changes(config.generator.architecture, settings.architecture, "generator.architecture")
    name = stage_hash(config, settings, dataset, detector, selector, start)
    folder = StageFolder(storage, STAGE, name, dataset.version)
    finished = folder.result()
    if finished is not None:
        return finished
    tracker.log_params({"stage": STAGE, "dataset_version": dataset.version, **settings.model_dump(mode="json")})
    tracker.log_params(start_record(start))
    device = resolve_device(config.device)
    train = read_films(dataset, Split.TRAIN, detector, selector, storage, device)
    table = add_text_only(train.phrases(), load_texts(storage, dataset, Split.TRAIN), train.films)
    if not table.is_seen.any():
        raise TrainingError(NO_PHRASE, dataset.name)
    tokenizer = vocabulary_of(table.texts, settings, start)
    validation = read_films(
        dataset, Split.VALIDATION, detector, selector, storage, device, limit=settings.num_validation_films
    )
    validation = replace(validation, order=report_order(train.films))
    model, duration_s = fit_generator(
        table, tokenizer, settings, folder, tracker, device=device, seed=config.seed, validation=validation, start=start
    )
    validation = tuned(model, tokenizer, validation, settings)
    metrics = score_generator(model, tokenizer, validation, settings)
    tracker.log_metrics(metrics, step=settings.loop.num_steps)
    return folder.finish(
        model,
        {**stage_config(model.architecture, tokenizer, settings, validation), **start_record(start)},
        metrics,
        files={"tokenizer.json": tokenizer.to_bytes()},
        duration_s=duration_s,
        run_id=tracker.run_id,
        trained_on={"detector": detector, "selector": selector},
    )


def stage_hash(
    config: TrainStageConfig,
    settings: GeneratorTraining,
    dataset: DatasetRef,
    detector: StageResult,
    selector: StageResult,
    start: Start | None = None,
) -> str:
    """Return the hash over everything that decides the outcome of the stage."""
    return config_hash(
        code=CODE_VERSION,
        settings=settings.model_dump(mode="json"),
        seed=config.seed,
        dataset=dataset.version,
        detector=detector.sha256,
        selector=selector.sha256,
        **start_parts(start),
    )


def vocabulary_of(phrases: Sequence[str], settings: GeneratorTraining, start: Start | None) -> PhraseTokenizer:
    """Return the vocabulary of the first weights, or one learnt from the training phrases."""
    if start is not None:
        return generator_vocabulary(start)
    return train_tokenizer(phrases, settings.architecture.vocab_size)


def build_generator(
    settings: GeneratorTraining,
    tokenizer: PhraseTokenizer,
    feature_size: int,
    start: Start | None,
    *,
    features: NDArray[np.float32] | None = None,
) -> ReportGenerator:
    """Return an untrained generator, with the first weights that were given.

    Args:
        settings: Its architecture but for the two sizes that follow.
        tokenizer: Decides the size of the word table.
        feature_size: Length of a region feature.
        start: First weights, whose vocabulary the tokenizer is; random ones without.
        features: Region features ``[N, F]`` that their scale is taken from; weights of a whole generator bring theirs.
    """
    sizes = {"vocab_size": tokenizer.vocab_size, "feature_size": feature_size}
    model = ReportGenerator(settings.architecture.model_copy(update=sizes))
    if features is not None:
        model.fit_feature_scale(torch.from_numpy(features))
    if start is not None:
        load_generator_start(model, start)
    return model


def stage_config(
    architecture: GeneratorArchitecture,
    tokenizer: PhraseTokenizer,
    settings: GeneratorTraining,
    tuned: ReadFilms,
) -> dict[str, object]:
    """Return the content of the stage's ``config.json``; thresholds and order are those of validation films."""
    return {
        "architecture": architecture.model_dump(mode="json"),
        "tokenizer_sha256": tokenizer.sha256,
        "decoding": settings.decoding.model_dump(mode="json"),
        "selection": {
            "selection": tuned.thresholds.selection,
            "selection_beside_findings": tuned.thresholds.selection_beside_findings,
        },
        "order": list(tuned.order),
    }


def fit_generator(
    table: PhraseTable,
    tokenizer: PhraseTokenizer,
    settings: GeneratorTraining,
    folder: StageFolder,
    tracker: Tracker,
    *,
    device: torch.device,
    seed: int = 0,
    validation: ReadFilms | None = None,
    start: Start | None = None,
) -> tuple[ReportGenerator, float]:
    """Train a generator on phrases.

    Args:
        table: Phrases and conditions.
        tokenizer: Spells them; decides the size of the word table.
        settings: Architecture, loop, shares.
        folder: Where training states go.
        tracker: Receives the curves.
        device: Where to train.
        seed: Seed of weights, order and what is hidden.
        validation: Films whose drafts' clinical micro-F1 scores the weights, where the loop asks for scores.
        start: First weights, whose vocabulary the tokenizer is; random ones without.

    Returns:
        The trained generator in ``eval`` mode, and the wall time in seconds.
    """
    seed_everything(seed)
    seen = table.features[table.is_seen]
    model = build_generator(settings, tokenizer, table.features.shape[1], start, features=seen).to(device)
    sampler = PhraseSampler(table, tokenizer, settings, seed)

    def score() -> float:
        assert validation is not None
        return clinical_micro_f1(model, tokenizer, validation, settings)

    with low_rank_updates(model.decoder, settings.lora_rank):
        outcome = fit(
            model, sampler.batch, token_loss(model), settings.loop,
            device=device, folder=folder, tracker=tracker, score=score if validation is not None else None,
        )  # fmt: skip
    return model.eval(), outcome.duration_s
