"""Films with what a finished detector and selector say of them: what a generator is trained and scored on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crrg.config.references import StageResult
from crrg.data.dataset.batches import FilmTable
from crrg.domain.regions import REGIONS
from crrg.inference.regions import RegionReadings, RegionThresholds, read_regions
from crrg.inference.visibility import Visibility
from crrg.models.detector import load_detector
from crrg.models.region_heads import load_selector
from crrg.storage import Storage
from crrg.training.checkpoint import read_stage
from crrg.training.phrase_batches import PhraseTable, collect_phrases


@dataclass(frozen=True)
class ReadFilms:
    """Films with what detector and selector say of them.

    Attributes:
        films: ``M`` films.
        readings: Their readings, as ``visibility`` leaves them.
        thresholds: The selector's thresholds.
        order: In which order drafts go through the regions.
        visibility: Which regions a film shows, where the detector knows that; a draft says nothing of the others.
    """

    films: FilmTable
    readings: RegionReadings
    thresholds: RegionThresholds
    order: Sequence[str] = REGIONS
    visibility: Visibility | None = None

    @property
    def shown(self) -> NDArray[np.bool_]:
        """Which regions ``[M, 29]`` the films may show."""
        scores = self.readings.scores
        return np.ones(scores.shape, dtype=bool) if self.visibility is None else self.visibility.is_shown(scores)

    @property
    def selected(self) -> NDArray[np.bool_]:
        """Which regions ``[M, 29]`` get a sentence, as at night."""
        return self.readings.selected(self.thresholds) & self.shown

    def phrases(self) -> PhraseTable:
        """Return the reference phrases with their conditions."""
        return collect_phrases(self.films, self.readings.features, self.readings.flags(self.thresholds))


def read_films(
    load: Callable[[int], FilmTable],
    detector: StageResult,
    selector: StageResult,
    storage: Storage,
    device: torch.device,
) -> ReadFilms:
    """Read films with finished detector and selector.

    Args:
        load: Side of a model's square input, pixels, to the films at that size; the same ones for every size.
        detector: Finished detector.
        selector: Finished selector.
        storage: Where both lie.
        device: Where to compute.
    """
    detector_config, detector_tensors = read_stage(storage, detector)
    detector_model = load_detector(detector_config, detector_tensors, device)
    selector_config, selector_tensors = read_stage(storage, selector)
    selector_model = load_selector(selector_config, selector_tensors, device)
    size = detector_model.architecture.input_size
    films = load(size)
    selector_images = films.images
    if selector_model.architecture.input_size != size:
        selector_images = load(selector_model.architecture.input_size).images
    readings = read_regions(detector_model, selector_model, films.images, selector_images)
    visibility = Visibility.from_config(detector_config)
    readings = readings if visibility is None else visibility.applied(readings)
    return ReadFilms(films, readings, RegionThresholds.from_config(selector_config), visibility=visibility)
