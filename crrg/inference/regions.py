"""Reads the regions of films: boxes, features, which regions deserve a sentence and what is abnormal in them.

Detector and selector run together here, for drafting and for training the generator alike, so that the generator meets
at night the same features it was trained on. A film's reading depends neither on its neighbours nor on how many there
are (``tiles``); where tiles are halved because memory does not suffice, and where a GPU reads few films in small ones,
readings agree within 1e-5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crrg.config.base import Precision
from crrg.device import autocast, in_batches, in_tiles
from crrg.domain.labels import LABELS, NO_FINDING
from crrg.domain.regions import NUM_REGIONS
from crrg.errors import ModelError
from crrg.inference.tiles import LARGE_INPUT, films_per_tile, tile_size
from crrg.models.detector import Detections, RegionDetector
from crrg.models.region_heads import AnySelector, FeatureSelector, RegionOutputs

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class RegionThresholds:
    """Probabilities at or above which a region is selected, abnormal, or shows a finding.

    Attributes:
        selection: 0..1, on films that show no finding.
        selection_beside_findings: 0..1, on films that show one: there a radiologist writes about it and leaves most of
            what is normal unsaid.
        abnormal: 0..1.
        findings: ``[14]`` in 0..1, in the order of ``LABELS``; "No Finding" is never a flag.
    """

    selection: float
    selection_beside_findings: float
    abnormal: float
    findings: FloatArray

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RegionThresholds:
        """Read ``thresholds`` of the selector's ``config.json``.

        Raises:
            ModelError: One is missing.
        """
        try:
            thresholds = config["thresholds"]
            findings = [2.0 if label == NO_FINDING else thresholds["findings"][label] for label in LABELS]
            return cls(
                selection=thresholds["selection"],
                selection_beside_findings=thresholds["selection_beside_findings"],
                abnormal=thresholds["abnormal"],
                findings=np.array(findings, dtype=np.float32),
            )
        except KeyError as error:
            raise ModelError(f"config.json has no threshold {error}; train the stage again", "selector") from error


@dataclass(frozen=True)
class RegionReadings:
    """Everything detector and selector say of films.

    Attributes:
        input_boxes_xyxy: ``[N, 29, 4]`` in model-input pixels.
        scores: ``[N, 29]`` in 0..1: the detector's, or the probability that the film shows the region where the
            bundle can say that (``crrg.inference.visibility``).
        detected: bool ``[N, 29]``.
        features: ``[N, 29, D]``.
        selection_probabilities: ``[N, 29]``.
        abnormal_probabilities: ``[N, 29]``.
        finding_probabilities: ``[N, 29, 14]``.
    """

    input_boxes_xyxy: FloatArray
    scores: FloatArray
    detected: NDArray[np.bool_]
    features: FloatArray
    selection_probabilities: FloatArray
    abnormal_probabilities: FloatArray
    finding_probabilities: FloatArray

    def flags(self, thresholds: RegionThresholds) -> FloatArray:
        """Return the conditions of the generator, ``[N, 29, 15]``: 14 findings and abnormality, 1 or 0.

        A region that shows a finding is abnormal, whatever its own abnormality says.
        """
        findings = (self.finding_probabilities >= thresholds.findings).astype(np.float32)
        abnormal = (self.abnormal_probabilities >= thresholds.abnormal) | findings.any(axis=-1)
        return np.concatenate([findings, abnormal[..., None].astype(np.float32)], axis=-1)

    def selected(self, thresholds: RegionThresholds) -> NDArray[np.bool_]:
        """Return which regions get a sentence, ``[N, 29]``; see ``select_regions``."""
        return select_regions(self.selection_probabilities, self.finding_probabilities, thresholds)


def told_flags(flags: NDArray[np.floating[Any]], told: NDArray[np.bool_]) -> FloatArray:
    """Return what a report says as a condition of its phrases: the flags of the regions that it speaks of.

    Args:
        flags: 14 findings and abnormality of every region, ``[N, 29, 15]``.
        told: Which regions get a sentence, ``[N, 29]``.

    Returns:
        ``[N, 29, 15]``, NaN for a region that nothing is said of.
    """
    return np.where(told[..., None], flags, np.nan).astype(np.float32)


def select_regions(
    selection_probabilities: FloatArray, finding_probabilities: FloatArray, thresholds: RegionThresholds
) -> NDArray[np.bool_]:
    """Choose the regions that get a sentence: those that show a finding, and those the selector wants.

    Args:
        selection_probabilities: ``[N, 29]``.
        finding_probabilities: ``[N, 29, 14]``.
        thresholds: The selector's; which selection threshold counts depends on whether the film shows any finding.

    Returns:
        bool ``[N, 29]``.
    """
    is_over: NDArray[np.bool_] = finding_probabilities >= thresholds.findings
    shows_finding = np.asarray(is_over.any(axis=-1))
    limits = np.where(shows_finding.any(axis=1), thresholds.selection_beside_findings, thresholds.selection)
    return np.asarray((selection_probabilities >= limits[:, None]) | shows_finding)


@torch.inference_mode()
def read_regions(
    detector: RegionDetector,
    selector: AnySelector,
    images: NDArray[np.uint8],
    selector_images: NDArray[np.uint8],
    *,
    precision: Precision = "exact",
    may_be_small: bool = False,
) -> RegionReadings:
    """Run detector and selector over films.

    Args:
        detector: In ``eval`` mode; decides the device.
        selector: In ``eval`` mode, on the same device.
        images: uint8 ``[N, S, S]``, letterboxed to the detector's input size.
        selector_images: The same films at the selector's input size; may be the same array.
        precision: ``exact`` as thresholds were chosen and the generator was trained; ``fast`` in bfloat16 on a GPU.
        may_be_small: As of ``tile_size``.

    Returns:
        Readings in the order of the films; empty arrays for no film.
    """
    if len(images) == 0:
        return _no_readings(selector)
    device = next(detector.parameters()).device
    sides = [stage.architecture.input_size for stage in (detector, selector)]
    scale = sides[1] / sides[0]
    # a region that was not found has the feature of an arbitrary proposal, and its box where no mean boxes were learnt
    has_places = not isinstance(selector, FeatureSelector) and bool(detector.shape_prior.is_fitted())

    arrays: list[NDArray[Any]] = []

    def read(rows: NDArray[np.int64], num_real: int) -> None:
        with autocast(device, precision):
            found = detector.detect(_to_device(images[rows], device))
            judged = _judge(selector, found, _to_device(selector_images[rows], device), scale)
        outputs = judged if has_places else _silenced(judged, found.detected)
        values = (
            found.input_boxes_xyxy,
            found.scores,
            found.detected,
            outputs.features,
            outputs.selection_logits.float().sigmoid(),
            outputs.abnormal_logits.float().sigmoid(),
            outputs.finding_logits.float().sigmoid(),
        )
        tile = [_as_array(value[:num_real]) for value in values]
        if not arrays:
            arrays.extend(np.empty((len(images), *part.shape[1:]), part.dtype) for part in tile)
        # each in its place at once: a split has gigabytes of features, and never twice
        for array, part in zip(arrays, tile, strict=True):
            array[rows[0] : rows[0] + num_real] = part

    in_tiles(len(images), tile_size(len(images), max(sides), device, precision, may_be_small=may_be_small), read)
    return RegionReadings(*arrays)


@torch.inference_mode()
def judge_at(
    detector: RegionDetector, selector: AnySelector, images: NDArray[np.uint8], input_boxes_xyxy: FloatArray
) -> RegionOutputs:
    """Judge the regions of films under given boxes, wherever the detector would find them.

    Heads that judge the detector's own features get those under the boxes, not under the proposals that led to them.

    Args:
        detector: In ``eval`` mode; decides the device.
        selector: In ``eval`` mode, on the same device.
        images: uint8 ``[N, S, S]``, letterboxed to ``looking_size``.
        input_boxes_xyxy: ``[29, 4]`` in pixels of the detector's input, the same for all films.
    """
    device = next(detector.parameters()).device
    boxes = torch.from_numpy(np.ascontiguousarray(input_boxes_xyxy)).to(device)

    def work(first: int, last: int) -> RegionOutputs:
        films, own = _to_device(images[first:last], device), boxes.expand(last - first, -1, -1)
        if isinstance(selector, FeatureSelector):
            judged: RegionOutputs = selector(detector.features_at(films, own))
        else:
            judged = selector(films, own * (selector.architecture.input_size / detector.architecture.input_size))
        return RegionOutputs(*(value.float().cpu() for value in vars(judged).values()))

    side = looking_size(detector, selector)
    parts = in_batches(len(images), films_per_tile(side, device) if side >= LARGE_INPUT else len(images), work)
    return RegionOutputs(*(torch.cat(column) for column in zip(*(vars(part).values() for part in parts), strict=True)))


def looking_size(detector: RegionDetector, selector: AnySelector) -> int:
    """Return the side of the square, pixels, of the network that judges regions."""
    return (detector if isinstance(selector, FeatureSelector) else selector).architecture.input_size


def _judge(selector: AnySelector, found: Detections, images: Tensor, scale: float) -> RegionOutputs:
    """Judge the regions of a tile; ``scale`` leads from the detector's input pixels to the selector's."""
    if isinstance(selector, FeatureSelector):
        if found.region_features is None:
            raise ModelError("the selector needs the detector's region features; train both together", "selector")
        judged: RegionOutputs = selector(found.region_features)
    else:
        judged = selector(images, found.input_boxes_xyxy * scale)
    return judged


def _silenced(judged: RegionOutputs, detected: Tensor) -> RegionOutputs:
    """Return judgements by which nothing is said of the regions that were not detected, bool ``[B, R]``."""
    return replace(
        judged,
        selection_logits=judged.selection_logits.masked_fill(~detected, -torch.inf),
        abnormal_logits=judged.abnormal_logits.masked_fill(~detected, -torch.inf),
        finding_logits=judged.finding_logits.masked_fill(~detected[..., None], -torch.inf),
    )


def _to_device(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).to(device)[:, None]


def _as_array(values: Tensor) -> NDArray[Any]:
    return np.asarray((values if values.dtype == torch.bool else values.float()).cpu().numpy())


def _no_readings(selector: AnySelector) -> RegionReadings:
    per_region = np.zeros((0, NUM_REGIONS), dtype=np.float32)
    return RegionReadings(
        input_boxes_xyxy=np.zeros((0, NUM_REGIONS, 4), dtype=np.float32),
        scores=per_region,
        detected=per_region.astype(bool),
        features=np.zeros((0, NUM_REGIONS, selector.architecture.feature_size), dtype=np.float32),
        selection_probabilities=per_region,
        abnormal_probabilities=per_region,
        finding_probabilities=np.zeros((0, NUM_REGIONS, len(LABELS)), dtype=np.float32),
    )
