"""The CLIP stage: films and reports in one space, and a calibrated label head.

Contrastive and label loss are minimised together. Batches are made in ``clip_batches``, what is fitted on validation
films in ``clip_validation``, pictures in ``clip_pictures``. ``joint`` trains the same stage on a mixture of reports
and drafts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from crrg.config.presets import preset_training
from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import ClipTraining, TrainStageConfig
from crrg.data.batches import FilmTable, load_films, load_texts
from crrg.data.images import PREPROCESSING_VERSION
from crrg.data.tokenizer import PhraseTokenizer, train_tokenizer
from crrg.device import resolve_device, seed_everything
from crrg.domain.labels import LABELS
from crrg.domain.study import Split
from crrg.errors import TrainingError
from crrg.inference.prompts import PROMPTS_VERSION, prompt_pair
from crrg.models.clip import ClipModel
from crrg.storage import Storage
from crrg.tracking import Tracker
from crrg.training.checkpoint import StageFolder, config_hash
from crrg.training.clip_batches import ClipBatch, ClipBatches, place_findings
from crrg.training.clip_pictures import reliability_picture, roc_picture
from crrg.training.clip_validation import ClipValidation, findings_auc, validate
from crrg.training.loop import fit
from crrg.training.losses import contrastive_loss, label_loss, label_weights, place_loss

logger = logging.getLogger(__name__)

CODE_VERSION = "1"
"""Raised when the same settings would train another model, so that a finished run is not reused."""


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
) -> StageResult:
    """Train the CLIP stage under a stage name, with drafts mixed in where given.

    Args:
        stage: ``clip`` or ``joint``; names the folder.
        config: Form of the stage.
        dataset: Version to train on.
        storage: Root.
        tracker: Receives what the run has to say.
        drafts: Instance id of a training film to a generated report.
    """
    training = resolve_training(config)
    folder = StageFolder(storage, stage, stage_hash(config, training, dataset, drafts))
    finished = folder.result()
    if finished is not None:
        return finished
    films = load_films(storage, dataset, Split.TRAIN, training.architecture.input_size)
    if not len(films):
        raise TrainingError("the training split has no frontal film; ingest films first", dataset.name)
    device = resolve_device(config.device)
    seed_everything(config.seed)
    tracker.log_params({"stage": stage, "dataset_version": dataset.version, **training.model_dump(mode="json")})
    texts = [report.text for report in load_texts(storage, dataset, Split.TRAIN)]
    tokenizer = train_clip_tokenizer([*texts, *(drafts or {}).values()], training.architecture.text_vocab_size)
    batches = ClipBatches(films, tokenizer, training, config.seed, drafts)
    model = ClipModel(training.architecture).to(device)
    validation = load_films(storage, dataset, Split.VALIDATION, training.architecture.input_size)
    outcome = fit(
        model, batches.make, clip_loss(model, films, training, device), training.loop,
        device=device, folder=folder, tracker=tracker, score=lambda: findings_auc(model, validation),
    )  # fmt: skip
    found = validate(model, tokenizer, validation)
    _log_validation(tracker, found)
    return folder.finish(
        model,
        {**stage_config(training, found), **({"num_drafts": len(drafts)} if drafts else {})},
        found.metrics,
        files={"tokenizer.json": tokenizer.to_bytes()},
        duration_s=outcome.duration_s,
        run_id=tracker.run_id,
    )


def resolve_training(config: TrainStageConfig) -> ClipTraining:
    """Return the preset's settings with the form's changes."""
    training = preset_training(config.preset).clip
    return training.model_copy(update={"loop": config.loop(training.loop)})


def stage_hash(
    config: TrainStageConfig, training: ClipTraining, dataset: DatasetRef, drafts: Mapping[str, str] | None
) -> str:
    """Return the hash over everything that decides the outcome of the stage."""
    settings: dict[str, Any] = training.model_dump(mode="json")
    return config_hash(
        training=settings,
        seed=config.seed,
        dataset=dataset.version,
        drafts=dict(sorted(drafts.items())) if drafts else {},
        code=CODE_VERSION,
        prompts=PROMPTS_VERSION,
        preprocessing=PREPROCESSING_VERSION,
    )


def train_clip_tokenizer(texts: list[str], vocab_size: int) -> PhraseTokenizer:
    """Learn the text tower's vocabulary from training texts and the prompts, in lower case."""
    prompts = [text for label in LABELS for text in (*prompt_pair(label).positive, *prompt_pair(label).negative)]
    return train_tokenizer((text.lower() for text in [*texts, *prompts]), vocab_size)


def clip_loss(
    model: ClipModel, films: FilmTable, training: ClipTraining, device: torch.device
) -> Callable[[ClipBatch], tuple[Tensor, dict[str, Tensor]]]:
    """Return the loss of a batch: contrastive and label terms by their weights, and both for the log."""
    weights = label_weights(torch.from_numpy(films.labels)).to(device)

    def loss_of(batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        batch = batch.to(device)
        reading = model.read_films(batch.images)
        num_films = len(batch.images)
        text_features = model.encode_text(batch.token_ids, batch.attention_mask)
        told = batch.has_text
        contrastive = contrastive_loss(
            reading.image_features[told], text_features[:num_films][told], model.scale, batch.matches[told][:, told]
        )
        denying, affirming = text_features[num_films:].chunk(2)
        answers = model.scale * reading.image_features @ (affirming - denying).T
        num_findings = answers.shape[1]
        prompts = label_loss(answers, batch.labels[:, :num_findings], weights[:num_findings])
        labels = label_loss(reading.label_logits, batch.labels, weights, uncertain=training.uncertain)
        cells = reading.cell_logits
        places = place_findings(batch.input_boxes_xyxy, batch.region_labels, cells.shape[-1], batch.images.shape[-1])
        place = place_loss(cells, places, batch.labels)
        total = (
            training.contrastive_loss_weight * contrastive
            + training.prompt_loss_weight * prompts
            + training.label_loss_weight * labels
            + training.place_loss_weight * place
        )
        parts = {"contrastive": contrastive, "prompt": prompts, "label": labels, "place": place, "scale": model.scale}
        return total, {name: part.detach() for name, part in parts.items()}

    return loss_of


def stage_config(training: ClipTraining, found: ClipValidation) -> dict[str, Any]:
    """Return the stage's ``config.json``: architecture, calibration, thresholds, similarity curve, prompts version."""
    return {
        "architecture": training.architecture.model_dump(mode="json"),
        **found.calibration.as_config(),
        "similarity": {"slope": found.similarity.slope, "bias": found.similarity.bias},
        "prompts_version": PROMPTS_VERSION,
        "preprocessing_version": PREPROCESSING_VERSION,
    }


def _log_validation(tracker: Tracker, found: ClipValidation) -> None:
    tracker.log_metrics(found.metrics)
    if len(found.labels):
        tracker.log_picture("clip/roc.png", roc_picture(found.probabilities, found.labels))
        tracker.log_picture("clip/reliability.png", reliability_picture(found.probabilities, found.labels))
