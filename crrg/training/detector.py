"""Detector stage: trains the network that finds the 29 regions, and measures it on films it never saw.

Metrics come from boxes that the detector found by itself; the annotation enters only in the comparison. The mean
training box of each region is measured beside it: a detector that does not beat it has learnt nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crrg.config.references import DatasetRef, StageResult
from crrg.config.resolved import detector_settings, keep_changes
from crrg.config.training import DetectorTraining, TrainStageConfig
from crrg.data.dataset.batches import FilmTable, has_boxes, load_films
from crrg.data.dataset.spaced import spread_rows
from crrg.device import in_batches, resolve_device, seed_everything
from crrg.domain.study import Split
from crrg.errors import TrainingError
from crrg.evaluation.detection import score_boxes
from crrg.inference.visibility import fit_visibility
from crrg.models.detector import Detections, RegionDetector, TrainingSample
from crrg.storage import Storage
from crrg.training.augment import augment_films
from crrg.training.checkpoint import StageFolder, config_hash, wait_for_result
from crrg.training.counted_loss import CountedLoss, step_parts
from crrg.training.hashed_settings import hashed_settings
from crrg.training.initial_weights import Start, detector_start, load_detector_start, start_parts, start_record
from crrg.training.loop import fit
from crrg.training.order import rows_of_step
from crrg.training.ranks import num_ranks, own_rows, own_seed, rank, rank_parts, sync_normalisation, wait_for_all
from crrg.training.running_statistics import statistics_held
from crrg.training.tracker import NullTracker, Tracker
from crrg.training.visibility import visibility_cases

logger = logging.getLogger(__name__)

CODE_VERSION = "5"
"""Raised when the same settings would train another model, so that a finished run is not reused."""

STAGE = "detector"
DETECT_BATCH = 32
NUM_CALIBRATION_FILMS = 400
PICTURE_SIDE = 512
FOUND_COLOUR = (80, 220, 80)
PRIOR_COLOUR = (80, 80, 220)
ANNOTATED_COLOUR = (160, 160, 160)


def train_detector(config: TrainStageConfig, dataset: DatasetRef, storage: Storage, tracker: Tracker) -> StageResult:
    """Train the detector, or return the finished result of the same settings on the same data.

    Args:
        config: Form of the stage.
        dataset: Version to train on; its train and validation splits are read.
        storage: Where datasets and checkpoints lie.
        tracker: Receives settings, losses, metrics and a picture of boxes on a validation film.

    Returns:
        The finished stage; metrics ``detection/mean_iou``, ``detection/mean_box_iou`` (baseline) and others.

    Raises:
        TrainingError: No training film has an annotated region.
    """
    settings, start = detector_start(detector_settings(config), config.initial_weights.detector)
    keep_changes(config.detector.architecture, settings.architecture, "detector.architecture")
    parts = {"settings": hashed_settings(settings), "data": dataset.version, "seed": config.seed, **start_parts(start)}
    parts |= rank_parts(config) | step_parts(settings.loop)
    folder = StageFolder(storage, STAGE, config_hash(stage=STAGE, code=CODE_VERSION, **parts), dataset.version)
    finished = folder.result()
    if finished is not None:
        return finished
    size = settings.architecture.input_size
    train = load_films(storage, dataset, Split.TRAIN, size, keep=has_boxes)
    if not len(train):
        raise TrainingError(
            "no training film has an annotated region; run crrg ground --model BUNDLE first, or ingest films with "
            "boxes or masks",
            STAGE,
        )
    validation = load_films(storage, dataset, Split.VALIDATION, size)
    device = resolve_device(config.device)
    tracker = tracker if rank() == 0 else NullTracker()
    params = {"detector": settings.model_dump(), "seed": config.seed, "num_films": len(train), **start_record(start)}
    folder.begin_run(tracker, params)
    seed_everything(config.seed)
    model = sync_normalisation(build_detector(settings, start).to(device), config, device)
    model.fit_regions(torch.from_numpy(train.input_boxes_xyxy / size).to(device))
    outcome = fit(
        model,
        batch_maker(train, settings, config.seed, device),
        detector_loss(model),
        settings.loop,
        device=device,
        folder=folder,
        tracker=tracker,
        score=lambda: detection_metrics(model, validation, device).get("detection/mean_iou", math.nan),
    )
    if rank() > 0:
        return wait_for_result(folder)
    model.eval()
    calibrate_shape(model, train, device, config.seed)
    metrics = measure(model, validation, device, tracker, outcome.num_steps)
    about = {"architecture": settings.architecture.model_dump(), **start_record(start)}
    about |= visibility_record(model, validation, device, config.seed)
    result = folder.finish(model, about, metrics, duration_s=outcome.duration_s, run_id=tracker.run_id)
    wait_for_all()
    return result


def measure(
    model: RegionDetector, films: FilmTable, device: torch.device, tracker: Tracker, num_steps: int
) -> dict[str, float]:
    """Measure a trained detector on validation films, and log figures and a picture of the first of them."""
    metrics = detection_metrics(model, films, device)
    tracker.log_metrics(metrics, step=num_steps)
    if len(films):
        tracker.log_picture("detector_boxes.png", boxes_picture(model, films, device))
    return metrics


def build_detector(settings: DetectorTraining, start: Start | None) -> RegionDetector:
    """Return an untrained detector, with the first weights that were given."""
    model = RegionDetector(settings.architecture)
    if start is not None:
        load_detector_start(model, start)
    return model


@dataclass(frozen=True)
class DetectorBatch:
    """Films of one step.

    Attributes:
        images: Grey values 0..255, ``[B, 1, S, S]``.
        boxes: In input pixels ``[B, R, 4]``, rows of NaN where not annotated.
        sample: What of them teaches, where that was chosen before.
    """

    images: Tensor
    boxes: Tensor
    sample: TrainingSample | None = None


def batch_maker(
    films: FilmTable, settings: DetectorTraining, seed: int, device: torch.device
) -> Callable[[int], DetectorBatch]:
    """Return the function from a step to its augmented films."""

    def make_batch(step: int) -> DetectorBatch:
        rows = own_rows(rows_of_step(len(films), settings.loop.batch_size * num_ranks(), seed, step))
        images, boxes = augment_films(
            films.images[rows],
            films.input_boxes_xyxy[rows],
            settings.augmentation,
            np.random.default_rng([seed, step, 1, *own_seed()]),
        )
        return DetectorBatch(torch.from_numpy(images)[:, None].to(device), torch.from_numpy(boxes).to(device))

    return make_batch


def detector_loss(model: RegionDetector) -> CountedLoss[DetectorBatch]:
    """Return the sum of the detector's four losses.

    Each is a mean over anchors or proposals; how many there are depends on what is annotated and on what the network
    proposes. So where a step has several batches they are looked at once more, before the first is learnt from.
    """

    def prepare(batch: DetectorBatch) -> DetectorBatch:
        with statistics_held(model):
            return replace(batch, sample=model.sample(batch.images, batch.boxes))

    def counts(batch: DetectorBatch) -> dict[str, Tensor]:
        assert batch.sample is not None
        return batch.sample.counts()

    return CountedLoss(lambda batch: model(batch.images, batch.boxes, batch.sample), counts, prepare=prepare)


def calibrate_shape(model: RegionDetector, films: FilmTable, device: torch.device, seed: int = 0) -> None:
    """Measure on training films how the boxes err that the detector finds, so that it can weigh them together.

    Args:
        model: Detector in ``eval`` mode.
        films: Annotated films; of more than ``NUM_CALIBRATION_FILMS`` some from all over the table are taken.
        device: Where the model is.
        seed: Decides which films are taken.
    """
    rows = spread_rows(len(films), NUM_CALIBRATION_FILMS, seed)
    images, boxes = films.images[rows], films.input_boxes_xyxy[rows]
    found = _in_batches(model.find, images, device).input_boxes_xyxy
    size = model.architecture.input_size
    model.shape_prior.calibrate((found / size).to(device), torch.from_numpy(boxes / size).to(device))


def visibility_record(model: RegionDetector, films: FilmTable, device: torch.device, seed: int) -> dict[str, Any]:
    """Return ``visibility`` for ``config.json``, fitted on validation films; empty where none is annotated."""
    if not films.is_annotated.any():
        return {}
    cases = visibility_cases(films, lambda images: detect_films(model, images, device).scores.numpy(), seed)
    fitted = fit_visibility(cases.scores, cases.visible)
    return {} if fitted is None else {"visibility": fitted.as_config()}


def detect_films(model: RegionDetector, images: NDArray[np.uint8], device: torch.device) -> Detections:
    """Find the regions of films uint8 ``[N, S, S]``; the result is on the CPU.

    Raises:
        DeviceMemoryError: The device's memory does not suffice for one film.
    """
    return _in_batches(model.detect, images, device)


def _in_batches(detect: Callable[[Tensor], Detections], images: NDArray[np.uint8], device: torch.device) -> Detections:
    def work(first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        found = detect(torch.from_numpy(images[first:last])[:, None].to(device))
        return found.input_boxes_xyxy.cpu(), found.scores.cpu(), found.detected.cpu()

    boxes, scores, detected = zip(*in_batches(len(images), DETECT_BATCH, work), strict=True)
    return Detections(torch.cat(boxes), torch.cat(scores), torch.cat(detected))


def detection_metrics(model: RegionDetector, films: FilmTable, device: torch.device) -> dict[str, float]:
    """Measure a detector on films it was not trained on.

    Args:
        model: Detector in ``eval`` mode.
        films: Films with annotation; regions without are left out.
        device: Where the model is.

    Returns:
        ``detection/mean_iou`` (mean over regions of the mean over films; an undetected region counts 0),
        ``detection/mean_box_iou`` (the same for the mean training box), ``detection/worst_region_iou`` and
        ``detection/detected_share``. Empty where nothing is annotated.
    """
    if not films.is_annotated.any():
        logger.warning("stage %s: no annotated validation film, nothing is measured", STAGE)
        return {}
    found = detect_films(model, films.images, device)
    figures = score_boxes(found.input_boxes_xyxy.numpy(), films.input_boxes_xyxy, found.detected.numpy())
    priors = np.broadcast_to(model.prior_boxes.cpu().numpy(), films.input_boxes_xyxy.shape)
    regions = [value for name, value in figures.items() if name.startswith("detection/iou/")]
    return {
        "detection/mean_iou": figures["detection/mean_region_iou"],
        "detection/mean_box_iou": score_boxes(priors, films.input_boxes_xyxy)["detection/mean_region_iou"],
        "detection/worst_region_iou": min(regions),
        "detection/detected_share": figures["detection/detected_share"],
    }


def boxes_picture(model: RegionDetector, films: FilmTable, device: torch.device) -> bytes:
    """Return a PNG of the first film with its boxes: found green, prior red, annotated grey."""
    found = detect_films(model, films.images[:1], device)
    size = films.images.shape[-1]
    side = max(PICTURE_SIDE, size)
    picture = cv2.cvtColor(cv2.resize(films.images[0], (side, side)), cv2.COLOR_GRAY2BGR)
    annotated = films.input_boxes_xyxy[0]
    drawn = [(box, ANNOTATED_COLOUR) for box in annotated[np.isfinite(annotated).all(axis=-1)]]
    for box, is_found in zip(found.input_boxes_xyxy[0].numpy(), found.detected[0].tolist(), strict=True):
        drawn.append((box, FOUND_COLOUR if is_found else PRIOR_COLOUR))
    for box, colour in drawn:
        x1, y1, x2, y2 = np.round(box * side / size).astype(int).tolist()
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 1)
    return bytes(cv2.imencode(".png", picture)[1])
