"""Films with the regions that a finished detector finds on them: what the selector is trained and judged on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crrg.config.references import DatasetRef
from crrg.data.dataset.batches import FilmTable, load_films
from crrg.domain.regions import NUM_REGIONS
from crrg.domain.study import Split
from crrg.models.detector import RegionDetector
from crrg.storage import Storage
from crrg.training.detector import detect_films
from crrg.training.region_targets import RegionTargets, region_targets


@dataclass(frozen=True)
class RegionFilms:
    """Films of one split, ready for the selector.

    Attributes:
        images: uint8 ``[N, S, S]`` at the selector's input size.
        boxes: Detected boxes float32 ``[N, R, 4]`` in the selector's input pixels.
        targets: What is known of the regions.
    """

    images: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    targets: RegionTargets


def load_region_films(
    storage: Storage,
    dataset: DatasetRef,
    split: Split,
    detector: RegionDetector,
    size: int,
    device: torch.device,
    *,
    unmentioned_absent: bool = False,
) -> RegionFilms:
    """Read the films of a split and find their regions.

    Args:
        storage: Where datasets lie.
        dataset: Version to read.
        split: Part of it.
        detector: In ``eval`` mode.
        size: Side of the selector's input, pixels.
        device: Where the detector is.
        unmentioned_absent: Whether findings that a film's labels do not mention are absent.
    """
    detector_size = detector.architecture.input_size
    films = load_films(storage, dataset, split, size, unmentioned_absent=unmentioned_absent)
    images = films.images if size == detector_size else load_films(storage, dataset, split, detector_size).images
    return with_boxes(films, images, detector, device)


def with_boxes(
    films: FilmTable, detector_images: NDArray[np.uint8], detector: RegionDetector, device: torch.device
) -> RegionFilms:
    """Find the regions of films.

    Args:
        films: At the input size of the network that reads them.
        detector_images: uint8 ``[B, H, W]``, the same films at the detector's input size.
        detector: In ``eval`` mode.
        device: Where it is.

    Returns:
        The films with boxes in pixels of ``films``; none for no film.
    """
    boxes = np.zeros((0, NUM_REGIONS, 4), dtype=np.float32)
    if len(films):
        scale = films.images.shape[-1] / detector.architecture.input_size
        boxes = detect_films(detector, detector_images, device).input_boxes_xyxy.numpy() * np.float32(scale)
    return RegionFilms(films.images, boxes, region_targets(films))
