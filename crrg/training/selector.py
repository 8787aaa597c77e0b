"""Selector stage: trains the network that decides which regions deserve a sentence and what they show.

The detector is frozen: its boxes are found once per film and jittered in training, so that training and drafting meet
the same kind of box. Films with their boxes are ``region_films``' business; thresholds are chosen on validation films
(``selector_scores``) and stored beside the weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crrg.config.references import DatasetRef, StageResult
from crrg.config.resolved import selector_settings
from crrg.config.training import SelectorTraining, TrainStageConfig
from crrg.device import resolve_device, seed_everything
from crrg.domain.labels import FINDINGS
from crrg.domain.study import Split
from crrg.errors import TrainingError
from crrg.models.detector import RegionDetector, load_detector
from crrg.models.region_heads import RegionOutputs, RegionSelector
from crrg.storage import Storage
from crrg.training.augment import augment_films
from crrg.training.checkpoint import StageFolder, config_hash, read_stage
from crrg.training.counted_loss import CountedLoss
from crrg.training.denials import warn_of_denials
from crrg.training.loop import fit
from crrg.training.losses import masked_bce
from crrg.training.order import balanced_rows_of_step
from crrg.training.region_films import RegionFilms, load_region_films
from crrg.training.region_targets import RegionTargets
from crrg.training.selector_scores import choose_thresholds, findings_auc, judge_films, selector_metrics
from crrg.training.tracker import Tracker

logger = logging.getLogger(__name__)

CODE_VERSION = "4"
"""Raised when the same settings would train another model, so that a finished run is not reused."""

STAGE = "selector"
PRIOR_COUNT = 20
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class RegionBatch:
    """Tensors of one step; targets 1, 0, or NaN where unknown.

    Attributes:
        images: uint8 ``[B, 1, S, S]``.
        boxes: ``[B, R, 4]``.
        selection: ``[B, R]``.
        abnormal: ``[B, R]``.
        findings: ``[B, R, 14]``.
        study: ``[B, 14]``.
    """

    images: Tensor
    boxes: Tensor
    selection: Tensor
    abnormal: Tensor
    findings: Tensor
    study: Tensor


def train_selector(
    config: TrainStageConfig, dataset: DatasetRef, detector: StageResult, storage: Storage, tracker: Tracker
) -> StageResult:
    """Train the selector, or return the finished result of the same settings, data and detector.

    Args:
        config: Form of the stage.
        dataset: Version to train on; its train and validation splits are read.
        detector: Finished detector; it stays as it is.
        storage: Where datasets and checkpoints lie.
        tracker: Receives settings, losses and metrics.

    Returns:
        The finished stage; metrics ``selection/f1``, ``selection/always_select_f1``, ``abnormality/auc``,
        ``region_findings/mean_auc`` and others. ``config.json`` holds ``thresholds``: ``selection``, ``abnormal``, and
        ``findings`` by label.

    Raises:
        TrainingError: There is no training film with a phrase or a known label.
    """
    settings = selector_settings(config)
    parts = {"settings": settings.model_dump(), "data": dataset.version, "seed": config.seed}
    name = config_hash(stage=STAGE, code=CODE_VERSION, detector=detector.sha256, **parts)
    folder = StageFolder(storage, STAGE, name, dataset.version)
    finished = folder.result()
    if finished is not None:
        return finished
    device = resolve_device(config.device)
    finder = load_detector(*read_stage(storage, detector), device)
    size = settings.architecture.input_size
    load = partial(load_region_films, storage, dataset, unmentioned_absent=settings.unmentioned_absent)
    train = load(Split.TRAIN, finder, size, device)
    if not (np.isfinite(train.targets.selection).any() or np.isfinite(train.targets.study).any()):
        raise TrainingError("no training film has a phrase or a known label; ingest films with reports", STAGE)
    warn_of_denials(train.targets.study, STAGE)
    tracker.log_params({"selector": settings.model_dump(), "seed": config.seed, "num_films": len(train.images)})
    validation = load(Split.VALIDATION, finder, size, device)
    seed_everything(config.seed)
    model = build_selector(settings, train.targets, finder, device)
    outcome = fit(
        model,
        batch_maker(train, settings, config.seed, device),
        selector_loss(model, settings),
        settings.loop,
        device=device,
        folder=folder,
        tracker=tracker,
        score=lambda: findings_auc(judge_films(model, validation, device), validation.targets),
    )
    judged = judge_films(model.eval(), validation, device)
    thresholds = choose_thresholds(judged, validation.targets)
    metrics = selector_metrics(judged, validation.targets, thresholds)
    tracker.log_metrics(metrics, step=outcome.num_steps)
    extras = {"architecture": settings.architecture.model_dump(), "thresholds": thresholds}
    return folder.finish(
        model, extras, metrics, duration_s=outcome.duration_s, run_id=tracker.run_id, trained_on={"detector": detector}
    )


def build_selector(
    settings: SelectorTraining, targets: RegionTargets, detector: RegionDetector, device: torch.device
) -> RegionSelector:
    """Return an untrained selector.

    Its heads start from how often each thing is said of each region in training, its encoder from the detector's
    backbone where that has the same shape.
    """
    model = RegionSelector(settings.architecture)
    model.start_at(
        *(torch.from_numpy(_shares(part)) for part in (targets.selection, targets.abnormal, targets.findings))
    )
    model = model.to(device)
    if not model.start_from(detector.backbone.state_dict()):
        logger.info("stage %s: the detector's backbone has another shape, starting from random weights", STAGE)
    return model


def batch_maker(
    films: RegionFilms, settings: SelectorTraining, seed: int, device: torch.device
) -> Callable[[int], RegionBatch]:
    """Return the function from a step to its batch: augmented films, boxes moved along and jittered."""

    def make_batch(step: int) -> RegionBatch:
        findings = films.targets.study[:, : len(FINDINGS)]
        rows = balanced_rows_of_step(findings, settings.loop.batch_size, settings.balanced_share, seed, step)
        rng = np.random.default_rng([seed, step, 2])
        images, moved = augment_films(films.images[rows], films.boxes[rows], settings.augmentation, rng)
        boxes = np.nan_to_num(moved)
        sides = np.concatenate([boxes[..., 2:] - boxes[..., :2]] * 2, axis=-1)
        boxes = boxes + np.float32(settings.box_jitter) * sides * rng.standard_normal(boxes.shape, dtype=np.float32)
        is_lost = np.asarray(np.isnan(moved).any(axis=-1, keepdims=True))
        targets = films.targets
        arrays = (
            boxes,
            np.where(is_lost[..., 0], np.nan, targets.selection[rows]),
            np.where(is_lost[..., 0], np.nan, targets.abnormal[rows]),
            np.where(is_lost, np.nan, targets.findings[rows]),
            targets.study[rows],
        )
        tensors = [torch.from_numpy(array.astype(np.float32)).to(device) for array in arrays]
        return RegionBatch(torch.from_numpy(images)[:, None].to(device), *tensors)

    return make_batch


def selector_loss(model: RegionSelector, settings: SelectorTraining) -> CountedLoss[RegionBatch]:
    """Return the loss of a batch, a sum of parts; one about which nothing is known in a batch is 0.

    The study part compares the surest region with the film's own label: it teaches where the report names a finding
    without a region, and puts the regions on one scale.
    """

    def parts(batch: RegionBatch) -> dict[str, Tensor]:
        outputs: RegionOutputs = model(batch.images, batch.boxes)
        return {
            "selection": masked_bce(outputs.selection_logits, batch.selection, settings.selection_pos_weight),
            "abnormal": masked_bce(outputs.abnormal_logits, batch.abnormal, settings.abnormal_pos_weight),
            "findings": masked_bce(outputs.finding_logits, batch.findings, settings.finding_pos_weight)
            * settings.finding_loss_weight,
            "study": masked_bce(outputs.finding_logits.amax(dim=1)[:, :-1], batch.study[:, :-1], 1.0)
            * settings.study_loss_weight,
        }

    def counts(batch: RegionBatch) -> dict[str, Tensor]:
        targets = {
            "selection": batch.selection,
            "abnormal": batch.abnormal,
            "findings": batch.findings,
            "study": batch.study[:, :-1],
        }
        return {name: torch.isfinite(wanted).sum() for name, wanted in targets.items()}

    return CountedLoss(parts, counts)


def _shares(targets: FloatArray) -> FloatArray:
    """Return the share of positives among known targets ``[N, ...]``, drawn towards the overall share where few are."""
    known = np.isfinite(targets)
    overall = np.nan_to_num(targets).sum() / max(1, known.sum())
    counts = np.nan_to_num(targets).sum(axis=0) + PRIOR_COUNT * overall
    return np.asarray(counts / (known.sum(axis=0) + PRIOR_COUNT), dtype=np.float32)
