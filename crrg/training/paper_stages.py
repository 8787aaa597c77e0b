"""The paper's second and third stage as stages of ours: finished ones are found again, and a bundle is made of them.

Stage 1 is the detector stage with the paper's detector. In stage 2 detector and heads learn together, in stage 3 the
language model with them (``paper_together``); each stage therefore makes the parts before it anew, and hands them on
beside its own. Thresholds are the paper's, and nothing is fitted on validation films.

What differs from the published training, in all three stages:

- The learning rate rises over a tenth of the steps and falls along a cosine; it does not wait for a plateau.
- The last weights are kept, not those of the least validation loss, unless the form asks for scores.
- Accumulated batches count as one, by how much each knows (``counted_loss``).
- Biases and normalisation weights are not decayed (``optim``); published, all decay by 0.01.
- A GPU computes in bfloat16, not float16.
- Films with missing boxes teach no background; a region without annotation is unknown, not negative.
- Of a region that a scene graph lists several times all entries are joined, and what only compares with an earlier film
  is left out (``crrg.data.archives.scene_graphs``); published, the last entry wins.
- Films are not turned (``presets.PAPER_AUGMENTATION``).
- Imported filters of ImageNet are summed for the one grey channel; published, that layer starts afresh.

In stages 2 and 3 which proposal speaks for a region is found once, by the detector of the stage before as it is used,
among its own proposals; published, at each step among sampled proposals and annotated boxes. The language model is
frozen only where it was imported.

Source: RGRG (Tanida et al., CVPR 2023), which CRRG-CLIP (Xu, Markchom, Liang, 2024) takes over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from crrg.config.models import SelectorArchitecture
from crrg.config.paper import paper_thresholds
from crrg.config.references import DatasetRef, StageResult
from crrg.config.resolved import selector_settings
from crrg.config.training import Augmentation, GeneratorTraining, LoopConfig, TrainStageConfig
from crrg.data.dataset.batches import FilmTable, load_films
from crrg.data.tokenizer import PhraseTokenizer
from crrg.device import resolve_device, seed_everything
from crrg.domain.study import Split
from crrg.errors import ConfigError, TrainingError
from crrg.evaluation.classification import roc_auc
from crrg.evaluation.detection import score_selection
from crrg.inference.regions import RegionReadings, RegionThresholds, read_regions
from crrg.models.detector import RegionDetector, load_detector
from crrg.models.region_heads import FeatureSelector, load_selector
from crrg.registry.stage_files import read_stage_config
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, config_hash, read_stage
from crrg.training.detector import detection_metrics
from crrg.training.generator import build_generator, stage_config, vocabulary_of
from crrg.training.generator_scores import clinical_micro_f1, score_generator
from crrg.training.initial_weights import Start, inherited_record, load_strictly, start_parts, start_record
from crrg.training.loop import FitOutcome, fit
from crrg.training.paper_starts import paper_generator_start, paper_selector_start
from crrg.training.paper_together import FoundFilms, WholeModel, batch_maker, find_proposals, whole_loss
from crrg.training.phrase_batches import NO_PHRASE
from crrg.training.read_films import ReadFilms
from crrg.training.region_targets import region_targets
from crrg.training.tracker import Tracker

CODE_VERSION = "6"
"""Raised when the same settings would train another model, so that a finished run is not reused."""


def train_paper_selector(
    config: TrainStageConfig, dataset: DatasetRef, detector: StageResult, storage: Storage, tracker: Tracker
) -> StageResult:
    """Train the paper's stage 2, detector and heads together, or return the finished result of the same settings.

    Args:
        config: Form of the stage, its recipe ``paper``.
        dataset: Version to train on.
        detector: Finished stage 1, from which the detector learns on.
        storage: Where datasets and checkpoints lie.
        tracker: Receives settings, losses and metrics.

    Returns:
        The heads, with the detector they were trained with beside them.

    Raises:
        ConfigError: The detector is not the paper's, or not of the import that the heads start from.
        TrainingError: There is no training film.
    """
    before = read_stage_config(storage, detector)
    settings, start = paper_selector_start(config, before)
    parts: dict[str, Any] = {"settings": settings.model_dump(mode="json"), "data": dataset.version}
    folder = _folder(storage, "selector", {"detector": detector}, {**parts, "seed": config.seed, **start_parts(start)})
    finished = folder.result()
    if finished is not None:
        return finished
    device = resolve_device(config.device)
    finder = _load_detector(storage, detector, device)
    films, validation = _films(storage, dataset, finder)
    about = {"selector": settings.model_dump(mode="json"), "recipe": "paper", "seed": config.seed}
    tracker.log_params({**about, **start_record(start)})
    found = find_proposals(finder, films, None, 0)
    seed_everything(config.seed)
    whole = WholeModel(finder, build_heads(settings.architecture, start)).to(device)
    outcome = _fit_whole(
        whole, found, settings.loop, settings.augmentation, config.seed, folder, tracker,
        lambda: heads_metrics(_read(whole, validation), validation).get("abnormality/auc", math.nan),
    )  # fmt: skip
    metrics = heads_metrics(_read(whole, validation), validation)
    tracker.log_metrics(metrics, step=outcome.num_steps)
    learnt_on = _detector_beside(folder, storage, whole, validation, tracker, before)
    return folder.finish(
        whole.selector,
        {**_heads_config(whole.selector), **start_record(start)},
        metrics,
        duration_s=outcome.duration_s,
        run_id=tracker.run_id,
        beside=(learnt_on,),
        trained_on={"detector": learnt_on},
    )


def train_paper_generator(
    config: TrainStageConfig,
    dataset: DatasetRef,
    parts: Mapping[str, StageResult],
    storage: Storage,
    tracker: Tracker,
) -> StageResult:
    """Train the paper's stage 3, all parts together, or return the finished result of the same settings.

    Args:
        config: Form of the stage, its recipe ``paper``.
        dataset: Version to train on.
        parts: ``detector`` and ``selector`` as stage 2 left them; both learn on.
        storage: Where datasets and checkpoints lie.
        tracker: Receives settings, losses and metrics.

    Returns:
        The generator, with the detector and the heads it was trained with beside it.

    Raises:
        ConfigError: Detector and heads are not the paper's, do not suit the settings, or are not of the import that the
            generator starts from.
        TrainingError: No training film has a region phrase.
    """
    upstream = {name: parts[name] for name in ("detector", "selector")}
    before = {name: read_stage_config(storage, part) for name, part in upstream.items()}
    settings, start = paper_generator_start(config, before["selector"])
    augmentation = selector_settings(config).augmentation
    about: dict[str, Any] = {"settings": settings.model_dump(mode="json"), "data": dataset.version}
    about |= {"augmentation": augmentation.model_dump(mode="json"), "seed": config.seed, **start_parts(start)}
    folder = _folder(storage, "generator", upstream, about)
    finished = folder.result()
    if finished is not None:
        return finished
    device = resolve_device(config.device)
    finder, heads = _load_detector(storage, parts["detector"], device), _load_heads(storage, parts["selector"], device)
    films, validation = _films(storage, dataset, finder, settings.num_validation_films)
    tokenizer = _vocabulary(films, settings, start)
    tracker.log_params({"generator": settings.model_dump(mode="json"), "recipe": "paper", **start_record(start)})
    found = find_proposals(finder, films, tokenizer, settings.architecture.max_length)
    seed_everything(config.seed)
    words = build_generator(settings, tokenizer, heads.architecture.feature_size, start)
    whole = WholeModel(finder, heads, words).to(device)
    outcome = _fit_whole(
        whole, found, settings.loop, augmentation, config.seed, folder, tracker,
        lambda: clinical_micro_f1(words, tokenizer, _read_films(whole, validation), settings),
    )  # fmt: skip
    read = _read_films(whole, validation)
    metrics = score_generator(words, tokenizer, read, settings)
    tracker.log_metrics(metrics, step=outcome.num_steps)
    config_json = {**stage_config(words.architecture, tokenizer, settings, read), **start_record(start)}
    made = _parts_beside(folder, storage, whole, validation, tracker, before)
    return folder.finish(
        words, config_json, metrics, files={"tokenizer.json": tokenizer.to_bytes()},
        duration_s=outcome.duration_s, run_id=tracker.run_id,
        beside=tuple(made.values()), trained_on=made,
    )  # fmt: skip


def build_heads(architecture: SelectorArchitecture, start: Start | None) -> FeatureSelector:
    """Return untrained heads, with the first weights that were given.

    Raises:
        ModelError: Names or shapes differ.
    """
    heads = FeatureSelector(architecture)
    if start is not None:
        load_strictly(heads, start.tensors(), start)
    return heads


def heads_metrics(readings: RegionReadings, films: FilmTable) -> dict[str, float]:
    """Measure the paper's heads on validation films; a figure about which nothing is known is left out."""
    targets = region_targets(films)
    metrics: dict[str, float] = {}
    known = np.isfinite(targets.selection)
    if (targets.selection == 1).any():
        wanted = targets.selection[known] == 1
        metrics |= score_selection(readings.selected(_thresholds())[known], wanted)
        metrics["selection/always_select_f1"] = score_selection(np.ones_like(wanted), wanted)["selection/f1"]
    # of a region that was not found nothing is known, and the publication counts the found ones alone
    abnormal = readings.abnormal_probabilities[readings.detected].astype(float)
    metrics["abnormality/auc"] = roc_auc(abnormal, targets.abnormal[readings.detected].astype(float))
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def _fit_whole(
    whole: WholeModel,
    found: FoundFilms,
    loop: LoopConfig,
    augmentation: Augmentation,
    seed: int,
    folder: StageFolder,
    tracker: Tracker,
    score: Callable[[], float],
) -> FitOutcome:
    """Train all parts together and leave them in ``eval`` mode."""
    outcome = fit(
        whole, batch_maker(found, loop.batch_size, augmentation, seed), whole_loss(whole), loop,
        device=next(whole.parameters()).device, folder=folder, tracker=tracker, score=score,
    )  # fmt: skip
    whole.eval()
    return outcome


def _folder(storage: Storage, stage: str, upstream: Mapping[str, StageResult], parts: Mapping[str, Any]) -> StageFolder:
    """Return the folder of a stage, named by everything that decides its outcome."""
    digests = {name: result.sha256 for name, result in upstream.items()}
    name = config_hash(stage=stage, recipe="paper", code=CODE_VERSION, upstream=digests, **parts)
    return StageFolder(storage, stage, name, parts["data"])


def _films(
    storage: Storage, dataset: DatasetRef, detector: RegionDetector, limit: int = 0
) -> tuple[FilmTable, FilmTable]:
    """Return training and validation films at the detector's input size; ``limit`` = most validation films, 0 = all."""
    size = detector.architecture.input_size
    films = load_films(storage, dataset, Split.TRAIN, size)
    if not len(films):
        raise TrainingError("the training split has no frontal film; ingest films first", dataset.name)
    return films, load_films(storage, dataset, Split.VALIDATION, size, limit)


def _load_detector(storage: Storage, result: StageResult, device: torch.device) -> RegionDetector:
    detector = load_detector(*read_stage(storage, result), device)
    if not detector.architecture.region_features:
        raise ConfigError(
            "the detector passes on no region features; train it with the recipe `paper` as well", result.prefix
        )
    return detector


def _load_heads(storage: Storage, result: StageResult, device: torch.device) -> FeatureSelector:
    heads = load_selector(*read_stage(storage, result), device)
    if not isinstance(heads, FeatureSelector):
        raise ConfigError("the selector is not the paper's; train it with the recipe `paper` as well", result.prefix)
    return heads


def _vocabulary(films: FilmTable, settings: GeneratorTraining, start: Start | None) -> PhraseTokenizer:
    """Return the vocabulary of the first weights, or one learnt from the phrases of training films.

    Raises:
        TrainingError: There is none.
    """
    phrases = [phrase for of_film in films.phrases for phrase in of_film.values()]
    if not phrases:
        raise TrainingError(NO_PHRASE, "generator")
    return vocabulary_of(phrases, settings, start)


def _thresholds() -> RegionThresholds:
    return RegionThresholds.from_config({"thresholds": paper_thresholds()})


def _read(whole: WholeModel, films: FilmTable) -> RegionReadings:
    return read_regions(whole.detector, whole.selector, films.images, films.images)


def _read_films(whole: WholeModel, films: FilmTable) -> ReadFilms:
    return ReadFilms(films, _read(whole, films), _thresholds())


def _detector_beside(
    folder: StageFolder,
    storage: Storage,
    whole: WholeModel,
    films: FilmTable,
    tracker: Tracker,
    before: Mapping[str, Any],
) -> StageResult:
    """Write the detector that learnt on in a stage, with its figures and what it says of its first weights."""
    metrics = detection_metrics(whole.detector, films, next(whole.parameters()).device)
    tracker.log_metrics(metrics)
    about = {"architecture": whole.detector.architecture.model_dump(mode="json"), **inherited_record(before)}
    place = StageFolder(storage, f"{folder.stage}-detector", folder.config_hash, folder.dataset_version)
    return place.finish(whole.detector, about, metrics, run_id=tracker.run_id)


def _heads_config(heads: FeatureSelector) -> dict[str, Any]:
    return {"architecture": heads.architecture.model_dump(mode="json"), "thresholds": paper_thresholds()}


def _parts_beside(
    folder: StageFolder,
    storage: Storage,
    whole: WholeModel,
    films: FilmTable,
    tracker: Tracker,
    before: Mapping[str, Mapping[str, Any]],
) -> dict[str, StageResult]:
    """Write detector and heads that learnt on, with their figures and what they say of their first weights."""
    detector = _detector_beside(folder, storage, whole, films, tracker, before["detector"])
    metrics = heads_metrics(_read(whole, films), films)
    tracker.log_metrics(metrics)
    place = StageFolder(storage, f"{folder.stage}-selector", folder.config_hash, folder.dataset_version)
    about = {**_heads_config(whole.selector), **inherited_record(before["selector"])}
    heads = place.finish(whole.selector, about, metrics, run_id=tracker.run_id, trained_on={"detector": detector})
    return {"detector": detector, "selector": heads}
