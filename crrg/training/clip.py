"""The CLIP stage: films and reports in one space, and a calibrated label head.

Contrastive and label loss are minimised together. Batches are made in ``clip_batches``, what is fitted on validation
films in ``clip_validation``, pictures in ``clip_pictures``. ``joint`` trains the same stage on a mixture of reports
and drafts.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from crrg.config.references import DatasetRef, StageResult
from crrg.config.resolved import clip_settings, keep_changes
from crrg.config.training import ClipTraining, LoopConfig, TrainStageConfig
from crrg.data.dataset.batches import FilmTable, load_films, load_texts
from crrg.data.images import PREPROCESSING_VERSION
from crrg.data.published_tokenizers import PublishedTokenizer
from crrg.data.tokenizer import PhraseTokenizer, TextTokenizer, train_tokenizer
from crrg.device import resolve_device, seed_everything
from crrg.domain.labels import FINDINGS, LABELS
from crrg.domain.nbest import DraftsOrigin
from crrg.domain.study import Split
from crrg.errors import TrainingError
from crrg.inference.prompts import PROMPTS_VERSION, prompt_pair
from crrg.models.clip import ClipModel
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, config_hash, wait_for_result
from crrg.training.clip_batches import ClipBatch, ClipBatches, place_findings
from crrg.training.clip_encoding import encode_films, encode_texts
from crrg.training.clip_pictures import reliability_picture, roc_picture
from crrg.training.clip_start import ClipStart, clip_start, load_clip_start
from crrg.training.clip_validation import TEXT_SPREAD, ClipValidation, selection_score, validate
from crrg.training.contrastive import StudyFeatures, contrast_parts, study_loss
from crrg.training.counted_loss import CountedLoss, step_parts
from crrg.training.denials import warn_of_denials
from crrg.training.initial_weights import start_parts, start_record
from crrg.training.loop import fit
from crrg.training.losses import label_loss, label_weights, num_known, num_placed, place_loss, prompt_loss
from crrg.training.paraphrase import paraphrase_parts
from crrg.training.ranks import num_ranks, rank, rank_parts, sync_normalisation, wait_for_all
from crrg.training.tracker import NullTracker, Tracker

logger = logging.getLogger(__name__)

CODE_VERSION = "4"
"""Raised when the same settings would train another model, so that a finished run is not reused."""
MIN_TEXT_SPREAD = 1e-3
"""Least spread of validation texts that a text tower must tell apart: random ones have 0.25, trained ones about 0.1."""


def train_clip(config: TrainStageConfig, dataset: DatasetRef, storage: Storage, tracker: Tracker) -> StageResult:
    """Train image tower, text tower and label head on a dataset, and calibrate them on its validation films.

    Args:
        config: Form of the stage.
        dataset: Version to train on.
        storage: Root with ``datasets/`` and ``checkpoints/``.
        tracker: Receives settings, curves, metrics, and ROC and reliability pictures.

    Returns:
        The finished stage; an earlier one with the same settings and data is found and reused.

    Raises:
        TrainingError: The dataset has no training film.
        NonFiniteLoss: The loss stayed non-finite.
    """
    return run_clip_stage("clip", config, dataset, storage, tracker, drafts=None)


def run_clip_stage(
    stage: str,
    config: TrainStageConfig,
    dataset: DatasetRef,
    storage: Storage,
    tracker: Tracker,
    *,
    drafts: Mapping[str, str] | None,
    origin: DraftsOrigin | None = None,
) -> StageResult:
    """Train the CLIP stage under a stage name, with drafts mixed in where given.

    Args:
        stage: ``clip`` or ``joint``; names the folder.
        config: Form of the stage.
        dataset: Version to train on.
        storage: Root.
        tracker: Receives what the run has to say.
        drafts: Instance id of a training film to a generated report.
        origin: Where they come from.
    """
    training, start = resolve_start(config)
    folder = StageFolder(storage, stage, stage_hash(config, training, dataset, drafts, start), dataset.version)
    if (finished := folder.result()) is not None:
        return finished
    tracker = tracker if rank() == 0 else NullTracker()
    films = load_clip_films(storage, dataset, Split.TRAIN, training)
    if not len(films):
        raise TrainingError("the training split has no frontal film; ingest films first", dataset.name)
    warn_of_denials(films.labels, "clip")
    laterals = load_laterals(storage, dataset, training)
    device = resolve_device(config.device)
    seed_everything(config.seed)
    record = start_record(*start.starts)
    settings = {**training.model_dump(mode="json"), **record}
    tracker.log_params({"stage": stage, "dataset_version": dataset.version, **settings})
    texts = [*(report.text for report in load_texts(storage, dataset, Split.TRAIN)), *(drafts or {}).values()]
    tokenizer = start.vocabulary() or train_clip_tokenizer(texts, training.architecture.text_vocab_size)
    batches = ClipBatches(films, tokenizer, training, config.seed, drafts, laterals=laterals)
    model = sync_normalisation(build_clip(training, start).to(device), config, device)
    validation = load_clip_films(storage, dataset, Split.VALIDATION, training)
    outcome = fit(
        model, batches.make, clip_loss(model, films, training, device), resolve_length(config, training, len(batches)),
        device=device, folder=folder, tracker=tracker,
        score=lambda: selection_score(model, tokenizer, validation, training),
        slower=[(model.text_tower, training.text_rate)],
    )  # fmt: skip
    if rank() > 0:
        return wait_for_result(folder)
    found = _validated(model, tokenizer, validation, training, tracker)
    result = folder.finish(
        model,
        {**stage_config(training, found), **vocabulary_config(tokenizer), **record, **drafts_config(drafts, origin)},
        found.metrics,
        files={"tokenizer.json": tokenizer.to_bytes()},
        duration_s=outcome.duration_s,
        run_id=tracker.run_id,
    )
    wait_for_all()
    return result


def warn_of_texts(spread: float, training: ClipTraining) -> None:
    """Say where a trained text tower tells no text from another: its rate was too high, or its training too short.

    Args:
        spread: How far the features of validation texts lie apart; NaN where that was not measured.
        training: What it was trained with.
    """
    if training.contrastive_loss_weight and spread < MIN_TEXT_SPREAD:
        logger.warning(
            "the text tower embeds every text alike (they lie %.0e apart, at least %g is usual): zero-shot, "
            "retrieval and consistency of this stage are meaningless; train again with another seed or a lower "
            "learning rate (clip.text_rate, now %g, is the text tower's share of it)",
            spread, MIN_TEXT_SPREAD, training.text_rate,
        )  # fmt: skip


def drafts_config(drafts: Mapping[str, str] | None, origin: DraftsOrigin | None) -> dict[str, Any]:
    """Return what a stage's ``config.json`` says of the drafts it read: how many, which version, whose."""
    read: dict[str, Any] = {"num_drafts": len(drafts)} if drafts else {}
    return read | ({"drafts": asdict(origin)} if origin else {})


def load_clip_films(
    storage: Storage, dataset: DatasetRef, split: Split, training: ClipTraining, *, laterals: bool = False
) -> FilmTable:
    """Return the frontal films of a split, or its lateral ones, as a training with these settings sees them."""
    size, absent = training.architecture.input_size, training.unmentioned_absent
    return load_films(storage, dataset, split, size, laterals=laterals, unmentioned_absent=absent)


def load_laterals(storage: Storage, dataset: DatasetRef, training: ClipTraining) -> FilmTable | None:
    """Return the training split's lateral films, where a second view may be one."""
    if training.sampling.num_views == 1 or not training.sampling.laterals:
        return None
    return load_clip_films(storage, dataset, Split.TRAIN, training, laterals=True)


def build_clip(training: ClipTraining, start: ClipStart) -> ClipModel:
    """Return an untrained CLIP, with the first weights that were given."""
    model = ClipModel(training.architecture)
    load_clip_start(model, start)
    return model


def vocabulary_config(tokenizer: TextTokenizer) -> dict[str, Any]:
    """Return what a stage's ``config.json`` says of its vocabulary: a digest, and the kind of a published one."""
    kind = {"tokenizer_kind": tokenizer.kind} if isinstance(tokenizer, PublishedTokenizer) else {}
    return {"tokenizer_sha256": tokenizer.sha256, **kind}


def resolve_training(config: TrainStageConfig) -> ClipTraining:
    """Return the settings of the form's preset and recipe, with the form's changes."""
    return clip_settings(config)


def resolve_start(config: TrainStageConfig) -> tuple[ClipTraining, ClipStart]:
    """Return the settings as the first weights need them, and these.

    Raises:
        ConfigError: Weights and settings do not suit each other; the message names the field.
    """
    training, start = clip_start(resolve_training(config), config.initial_weights)
    keep_changes(config.clip.architecture, training.architecture, "clip.architecture")
    return training, start


def resolve_length(config: TrainStageConfig, training: ClipTraining, num_studies: int) -> LoopConfig:
    """Return the loop; where the recipe counts epochs and the form no steps, it is that long and scored after each."""
    if not training.num_epochs or config.num_steps or config.clip.loop.num_steps:
        return training.loop
    per_epoch = math.ceil(num_studies / (training.loop.batch_size * training.loop.accumulate * num_ranks()))
    validate_every = training.loop.validate_every or per_epoch
    return training.loop.model_copy(
        update={"num_steps": training.num_epochs * per_epoch, "validate_every": validate_every}
    )


def stage_hash(
    config: TrainStageConfig,
    training: ClipTraining,
    dataset: DatasetRef,
    drafts: Mapping[str, str] | None,
    start: ClipStart,
) -> str:
    """Return the hash over everything that decides the outcome of the stage."""
    settings: dict[str, Any] = training.model_dump(mode="json", exclude={"paraphrases"})
    return config_hash(
        training=settings,
        seed=config.seed,
        dataset=dataset.version,
        drafts=dict(sorted(drafts.items())) if drafts else {},
        code=CODE_VERSION,
        prompts=PROMPTS_VERSION,
        preprocessing=PREPROCESSING_VERSION,
        **start_parts(*start.starts),
        **rank_parts(config),
        **step_parts(training.loop),
        **contrast_parts(training.contrast),
        **paraphrase_parts(training.paraphrases),
    )


def train_clip_tokenizer(texts: list[str], vocab_size: int) -> PhraseTokenizer:
    """Learn the text tower's vocabulary from training texts and the prompts, in lower case."""
    prompts = [text for label in LABELS for text in (*prompt_pair(label).positive, *prompt_pair(label).negative)]
    return train_tokenizer((text.lower() for text in [*texts, *prompts]), vocab_size)


def clip_loss(
    model: ClipModel, films: FilmTable, training: ClipTraining, device: torch.device
) -> CountedLoss[ClipBatch]:
    """Return the loss of a batch: contrastive and label terms by their weights, and all of them for the log.

    Labels and places are asked of the first view alone. A term whose weight is 0 is not computed. Of several batches of
    a step every known label, prompt and place counts as much as any other. The contrastive term is their mean: it
    compares the studies of a batch with each other, and what is not in one batch is not compared. A larger batch under
    gradient caching (``contrast.cached_rows``) is, and costs no more memory.
    """
    weights = label_weights(torch.from_numpy(films.labels)).to(device)
    size, uncertain = training.architecture.input_size, training.uncertain

    def parts(batch: ClipBatch) -> dict[str, Tensor]:
        batch = batch.to(device)
        model.hold_scale()
        cached_rows = training.contrast.cached_rows
        # each view in a pass of its own, so that batch normalisation sees every study once, as published
        readings = [encode_films(model, view, cached_rows) for view in batch.images.split(len(batch.labels))]
        texts = encode_texts(model, batch.token_ids, batch.attention_mask, cached_rows)
        views = [reading.image_features for reading in readings]
        logits, cells = readings[0].label_logits, readings[0].cell_logits
        terms: dict[str, Callable[[], Tensor]] = {
            "contrastive": lambda: study_loss(
                study_features(batch, views, texts), model.scale, model.logit_bias, training.contrast
            ),
            "prompt": lambda: prompt_loss(
                views[0], texts[batch.prompt_rows], model.scale, batch.labels, weights, uncertain=uncertain
            ),
            "label": lambda: label_loss(logits, batch.labels, weights, uncertain=uncertain),
            "place": lambda: placing_loss(cells, batch),
        }
        return {name: terms[name]() for name in asked}

    def counts(batch: ClipBatch) -> dict[str, Tensor]:
        places = place_findings(batch.input_boxes_xyxy, batch.region_labels, 1, size)
        found = {
            "contrastive": torch.tensor(1),
            "prompt": num_known(batch.labels[:, : len(FINDINGS)], uncertain=uncertain),
            "label": num_known(batch.labels, uncertain=uncertain),
            "place": num_placed(places, batch.labels),
        }
        return {name: found[name] for name in asked}

    asked = {name: weight for name, weight in term_weights(training).items() if weight}
    return CountedLoss(parts, counts, asked, lambda: {"scale": model.scale})


def term_weights(training: ClipTraining) -> dict[str, float]:
    """Return what each term counts in the loss."""
    return {
        "contrastive": training.contrastive_loss_weight,
        "prompt": training.prompt_loss_weight,
        "label": training.label_loss_weight,
        "place": training.place_loss_weight,
    }


def study_features(batch: ClipBatch, views: Sequence[Tensor], text_features: Tensor) -> StudyFeatures:
    """Return the features of a batch study by study.

    Args:
        batch: What was encoded.
        views: Features ``[B, D]`` of each view.
        text_features: Features ``[U, D]`` of the batch's different texts.
    """
    return StudyFeatures(
        views=tuple(views),
        texts=tuple(text_features[rows] for rows in batch.text_rows),
        study_ids=batch.study_ids,
        text_ids=batch.text_ids,
        source_ids=batch.source_ids,
        has_text=batch.has_text,
    )


def placing_loss(cells: Tensor, batch: ClipBatch) -> Tensor:
    """Return the loss of places ``[B, 14, h, w]`` against the regions that a batch's reports name."""
    size = batch.images.shape[-1]
    places = place_findings(batch.input_boxes_xyxy, batch.region_labels, cells.shape[-1], size)
    return place_loss(cells, places, batch.labels)


def stage_config(training: ClipTraining, found: ClipValidation) -> dict[str, Any]:
    """Return the stage's ``config.json``: architecture, calibration, thresholds, similarity curve, prompts version."""
    return {
        "architecture": training.architecture.model_dump(mode="json"),
        **found.calibration.as_config(),
        "similarity": {"slope": found.similarity.slope, "bias": found.similarity.bias},
        "prompts_version": PROMPTS_VERSION,
        "preprocessing_version": PREPROCESSING_VERSION,
    }


def _validated(
    model: ClipModel, tokenizer: TextTokenizer, films: FilmTable, training: ClipTraining, tracker: Tracker
) -> ClipValidation:
    """Measure a trained model on validation films, log what was found, and say where its text tower learnt nothing."""
    found = validate(model, tokenizer, films, training)
    tracker.log_metrics(found.metrics)
    if len(found.labels):
        tracker.log_picture("clip/roc.png", roc_picture(found.probabilities, found.labels))
        tracker.log_picture("clip/reliability.png", reliability_picture(found.probabilities, found.labels))
    warn_of_texts(found.metrics.get(TEXT_SPREAD, math.nan), training)
    return found
