"""Trains the generator: region phrases under the frozen detector's and selector's reading of each film.

Detector and selector run once over all films before the first step. Which phrases make up a batch is
``phrase_batches``' business, how phrases become a report is ``crrg.inference.assembly``'s.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from crrg.config.models import GeneratorArchitecture
from crrg.config.references import DatasetRef, StageResult
from crrg.config.resolved import generator_settings, keep_changes
from crrg.config.training import GeneratorTraining, TrainStageConfig
from crrg.data.batches import FilmTable, load_films, load_texts
from crrg.data.tokenizer import PhraseTokenizer, train_tokenizer
from crrg.device import resolve_device, seed_everything
from crrg.domain.labels import FINDINGS, LABEL_INDEX, POSITIVE
from crrg.domain.regions import REGIONS
from crrg.domain.study import Pair, Split
from crrg.errors import TrainingError
from crrg.evaluation.labeler import label_report
from crrg.inference.assembly import RegionPhrase, assemble
from crrg.inference.decoding import UNCERTAIN_FLAG, decode_phrases
from crrg.inference.regions import RegionReadings, RegionThresholds, read_regions, told_flags
from crrg.models.detector import load_detector
from crrg.models.low_rank import low_rank_updates
from crrg.models.region_heads import load_selector
from crrg.models.report_generator import ReportGenerator
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, config_hash, read_stage
from crrg.training.counted_loss import CountedLoss
from crrg.training.initial_weights import (
    Start,
    generator_start,
    generator_vocabulary,
    load_generator_start,
    start_parts,
    start_record,
)
from crrg.training.loop import fit
from crrg.training.phrase_batches import (
    IGNORED,
    PhraseBatch,
    PhraseSampler,
    PhraseTable,
    ToldReports,
    add_text_only,
    collect_phrases,
)
from crrg.training.selection_tuning import Phrases, candidate_regions, tune_selection
from crrg.training.tracker import Tracker

logger = logging.getLogger(__name__)

CODE_VERSION = "2"
"""Raised when the same settings would train another model, so that a finished run is not reused."""
STAGE = "generator"


@dataclass(frozen=True)
class ReadFilms:
    """Films with what detector and selector say of them.

    Attributes:
        films: ``M`` films.
        readings: Their readings.
        thresholds: The selector's thresholds.
    """

    films: FilmTable
    readings: RegionReadings
    thresholds: RegionThresholds

    def phrases(self) -> PhraseTable:
        """Return the reference phrases with their conditions."""
        return collect_phrases(self.films, self.readings.features, self.readings.flags(self.thresholds))


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
    folder = StageFolder(storage, STAGE, stage_hash(config, settings, dataset, detector, selector, start))
    finished = folder.result()
    if finished is not None:
        return finished
    tracker.log_params({"stage": STAGE, "dataset": dataset.version, **settings.model_dump(mode="json")})
    tracker.log_params(start_record(start))
    device = resolve_device(config.device)
    train = read_films(dataset, Split.TRAIN, detector, selector, storage, device)
    table = add_text_only(train.phrases(), load_texts(storage, dataset, Split.TRAIN), train.films)
    if not table.is_seen.any():
        raise TrainingError("no training film has a region phrase; ingest films with grounded reports", dataset.name)
    tokenizer = vocabulary_of(table, settings, start)
    validation = read_films(
        dataset, Split.VALIDATION, detector, selector, storage, device, limit=settings.num_validation_films
    )
    model, duration_s = fit_generator(
        table, tokenizer, settings, folder, tracker, device=device, seed=config.seed, validation=validation, start=start
    )
    validation = tuned(model, tokenizer, validation, settings)
    metrics = score_generator(model, tokenizer, validation, settings)
    tracker.log_metrics(metrics, step=settings.loop.num_steps)
    return folder.finish(
        model,
        {**stage_config(model.architecture, tokenizer, settings, validation.thresholds), **start_record(start)},
        metrics,
        files={"tokenizer.json": tokenizer.to_bytes()},
        duration_s=duration_s,
        run_id=tracker.run_id,
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


def vocabulary_of(table: PhraseTable, settings: GeneratorTraining, start: Start | None) -> PhraseTokenizer:
    """Return the vocabulary of the first weights, or one learnt from the training phrases."""
    if start is not None:
        return generator_vocabulary(start)
    return train_tokenizer(table.texts, settings.architecture.vocab_size)


def read_films(
    dataset: DatasetRef,
    split: Split,
    detector: StageResult,
    selector: StageResult,
    storage: Storage,
    device: torch.device,
    *,
    limit: int = 0,
    keep: Callable[[Pair], bool] = lambda _pair: True,
) -> ReadFilms:
    """Read the films of a split with finished detector and selector.

    Args:
        dataset: Dataset version.
        split: Part of it.
        detector: Finished detector.
        selector: Finished selector.
        storage: Where both lie.
        device: Where to compute.
        limit: Most films; 0 = all.
        keep: Which rows to take.
    """
    detector_model = load_detector(*read_stage(storage, detector), device)
    selector_config, selector_tensors = read_stage(storage, selector)
    selector_model = load_selector(selector_config, selector_tensors, device)
    size = detector_model.architecture.input_size
    films = load_films(storage, dataset, split, size, limit, keep=keep)
    selector_images = films.images
    if selector_model.architecture.input_size != size:
        other = selector_model.architecture.input_size
        selector_images = load_films(storage, dataset, split, other, limit, keep=keep).images
    readings = read_regions(detector_model, selector_model, films.images, selector_images)
    return ReadFilms(films, readings, RegionThresholds.from_config(selector_config))


def stage_config(
    architecture: GeneratorArchitecture,
    tokenizer: PhraseTokenizer,
    settings: GeneratorTraining,
    thresholds: RegionThresholds,
) -> dict[str, object]:
    """Return the content of the stage's ``config.json``."""
    return {
        "architecture": architecture.model_dump(mode="json"),
        "tokenizer_sha256": tokenizer.sha256,
        "decoding": settings.decoding.model_dump(mode="json"),
        "selection": {
            "selection": thresholds.selection,
            "selection_beside_findings": thresholds.selection_beside_findings,
        },
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
    changes = {"vocab_size": tokenizer.vocab_size, "feature_size": table.features.shape[1]}
    model = ReportGenerator(settings.architecture.model_copy(update=changes))
    model.fit_feature_scale(torch.from_numpy(table.features[table.is_seen]))
    if start is not None:
        load_generator_start(model, start)
    model = model.to(device)
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


def token_loss(model: ReportGenerator) -> CountedLoss[PhraseBatch]:
    """Return the loss of a batch on any device; every token of a step counts as much, whichever batch it is in."""
    return CountedLoss(
        lambda batch: {"words": phrase_loss(model, batch.to(model.feature_mean.device))},
        lambda batch: {"words": (batch.targets != IGNORED).sum()},
    )


def phrase_loss(model: ReportGenerator, batch: PhraseBatch, *, reduction: str = "mean") -> Tensor:
    """Return the cross-entropy of the next token, over all tokens that are not padding."""
    condition = model.encode_condition(
        batch.features,
        batch.region_index,
        batch.finding_flags,
        report_flags=batch.report_flags,
        is_flagged=batch.is_flagged,
        is_seen=batch.is_seen,
    )
    logits = model(batch.token_ids, condition)
    return cross_entropy(
        logits.flatten(0, 1).float(), batch.targets.flatten(), ignore_index=IGNORED, reduction=reduction
    )


def score_generator(
    model: ReportGenerator, tokenizer: PhraseTokenizer, validation: ReadFilms, settings: GeneratorTraining
) -> dict[str, float]:
    """Return the validation metrics.

    ``generation/val_loss`` and ``generation/perplexity`` per token under the phrases' own flags;
    ``generation/label_fidelity``: micro-F1 between those flags and the labels read from the phrases drafted under them
    (phrases that leave a finding open are not counted);
    ``generation/clinical_micro_f1``: the same between the films' labels and drafts of what the selector chose. Empty
    where no validation film has a phrase.
    """
    table = validation.phrases()
    if not len(table):
        return {}
    loss = _validation_loss(model, PhraseSampler(table, tokenizer, settings))
    is_definite = ~(table.reference_flags == UNCERTAIN_FLAG).any(axis=1)
    flags, reports = table.reference_flags[is_definite], ToldReports(table).flags(np.flatnonzero(is_definite))
    features, regions = table.features[is_definite], table.region_index[is_definite]
    drafted = decode_phrases(model, tokenizer, features, regions, flags, settings.decoding, report_flags=reports)
    stated = [_positives(phrase.text) for phrase in drafted]
    wanted = [{label for label in FINDINGS if row[LABEL_INDEX[label]]} for row in flags]
    return {
        "generation/val_loss": loss,
        "generation/perplexity": math.exp(min(loss, 50.0)),
        "generation/label_fidelity": _micro_f1(wanted, stated),
        "generation/clinical_micro_f1": clinical_micro_f1(model, tokenizer, validation, settings),
    }


def clinical_micro_f1(
    model: ReportGenerator, tokenizer: PhraseTokenizer, validation: ReadFilms, settings: GeneratorTraining
) -> float:
    """Return the micro-F1 between the films' labels and what drafts of the regions the selector chose state."""
    reports = draft_films(model, tokenizer, validation, settings)
    truth = [{label for label in FINDINGS if row[LABEL_INDEX[label]] == POSITIVE} for row in validation.films.labels]
    return _micro_f1(truth, [_positives(report) for report in reports])


def tuned(
    model: ReportGenerator, tokenizer: PhraseTokenizer, read: ReadFilms, settings: GeneratorTraining
) -> ReadFilms:
    """Return validation films with the selection thresholds under which their drafts are most like their reports."""
    candidates = candidate_regions(read.readings, read.thresholds)
    phrases = _drafted_phrases(model, tokenizer, read, candidates, settings)
    return replace(read, thresholds=tune_selection(read.readings, read.thresholds, phrases, read.films.reports))


def draft_films(
    model: ReportGenerator, tokenizer: PhraseTokenizer, read: ReadFilms, settings: GeneratorTraining
) -> list[str]:
    """Return the drafted findings and impression of each film, as it would be drafted at night."""
    flags = read.readings.flags(read.thresholds)
    drafted = _drafted_phrases(model, tokenizer, read, read.readings.selected(read.thresholds), settings)
    per_film: list[list[RegionPhrase]] = [[] for _ in range(len(read.films))]
    for (film, region), phrase in drafted.items():
        per_film[film].append(RegionPhrase(REGIONS[region], phrase, bool(flags[film, region, -1])))
    reports = [assemble(phrases, label_report) for phrases in per_film]
    return [f"{report.findings} {report.impression}" for report in reports]


def _drafted_phrases(
    model: ReportGenerator,
    tokenizer: PhraseTokenizer,
    read: ReadFilms,
    selected: NDArray[np.bool_],
    settings: GeneratorTraining,
) -> Phrases:
    """Word regions ``[N, 29]``, in reports of those that the thresholds select; film and region index to phrase."""
    films, regions = np.nonzero(selected)
    flags, features = read.readings.flags(read.thresholds), read.readings.features[films, regions]
    reports, flags = told_flags(flags, read.readings.selected(read.thresholds))[films], flags[films, regions]
    drafted = decode_phrases(model, tokenizer, features, regions, flags, settings.decoding, report_flags=reports)
    places = zip(films.tolist(), regions.tolist(), strict=True)
    return {place: phrase.text for place, phrase in zip(places, drafted, strict=True)}


@torch.inference_mode()
def _validation_loss(model: ReportGenerator, sampler: PhraseSampler) -> float:
    total, num_tokens = 0.0, 0
    for batch in sampler.reference_batches():
        total += float(phrase_loss(model, batch.to(model.feature_mean.device), reduction="sum"))
        num_tokens += int((batch.targets != IGNORED).sum())
    return total / num_tokens


def _positives(text: str) -> set[str]:
    values = label_report(text)
    return {label for label in FINDINGS if values[label] == POSITIVE}


def _micro_f1(wanted: list[set[str]], stated: list[set[str]]) -> float:
    num_right = sum(len(a & b) for a, b in zip(wanted, stated, strict=True))
    num_all = sum(len(a) + len(b) for a, b in zip(wanted, stated, strict=True))
    return 2 * num_right / num_all if num_all else 1.0
