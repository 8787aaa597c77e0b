"""Films with what a finished detector and selector say of them: what a generator is trained and scored on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from crrg.config.references import DatasetRef, StageResult
from crrg.data.batches import FilmTable, load_films
from crrg.domain.regions import REGIONS
from crrg.domain.study import Pair, Split
from crrg.inference.regions import RegionReadings, RegionThresholds, read_regions
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
        readings: Their readings.
        thresholds: The selector's thresholds.
        order: In which order drafts go through the regions.
    """

    films: FilmTable
    readings: RegionReadings
    thresholds: RegionThresholds
    order: Sequence[str] = REGIONS

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
