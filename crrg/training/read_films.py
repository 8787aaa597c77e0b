"""Films with what a finished detector and selector say of them: what a generator is trained and scored on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crrg.config.references import DatasetRef, StageResult
from crrg.data.dataset.batches import FilmTable, load_films
from crrg.domain.regions import REGIONS
from crrg.domain.study import Pair, Split
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
    detector_config, detector_tensors = read_stage(storage, detector)
    detector_model = load_detector(detector_config, detector_tensors, device)
    selector_config, selector_tensors = read_stage(storage, selector)
    selector_model = load_selector(selector_config, selector_tensors, device)
    size = detector_model.architecture.input_size
    films = load_films(storage, dataset, split, size, limit, keep=keep)
    selector_images = films.images
    if selector_model.architecture.input_size != size:
        other = selector_model.architecture.input_size
        selector_images = load_films(storage, dataset, split, other, limit, keep=keep).images
    readings = read_regions(detector_model, selector_model, films.images, selector_images)
    visibility = Visibility.from_config(detector_config)
    readings = readings if visibility is None else visibility.applied(readings)
    return ReadFilms(films, readings, RegionThresholds.from_config(selector_config), visibility=visibility)
