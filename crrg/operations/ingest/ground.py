"""Give the films of a dataset regions by a trained detector: a new version with its boxes and the reports' phrases.

A film of an archive without scene graphs gets phrases only where there are boxes to hang them on. Here a bundle's
detector finds them, so that every radiograph-report archive can train all stages. What a person drew stays; rows keep
their split.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from crrg.config.base import Settings
from crrg.config.references import DatasetRef
from crrg.config.running import GroundConfig
from crrg.data.dataset.data_card import CARD_FIGURES, DataCard, write_card
from crrg.data.dataset.pairs import read_manifest, read_pairs, resolve_dataset, version_prefix, write_dataset
from crrg.data.pair_grounding import GROUNDING_VERSION, ground_by_detector, needs_boxes
from crrg.data.privacy.forgotten import check_still_whole
from crrg.domain.acquisition import Acquisition
from crrg.domain.boxes import BoxXyxy
from crrg.domain.regions import REGIONS
from crrg.domain.study import Film, Pair, Split
from crrg.evaluation.labeler import label_report
from crrg.ledger.audit import write_audit
from crrg.operations.stop import check_not_stopped
from crrg.progress import count_progress
from crrg.registry.aliases import resolve_bundle
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage

if TYPE_CHECKING:
    import torch

    from crrg.models.detector import RegionDetector

logger = logging.getLogger(__name__)

FILMS_AT_ONCE = 32
_KEPT_FIGURES = ("num_inputs", "num_accepted", "num_quarantined", "reasons", "leaks", "image_size")


def ground(config: GroundConfig, storage: Storage, settings: Settings) -> DatasetRef:
    """Write a version of a dataset whose films have a detector's boxes and phrases tied to them.

    The same dataset and the same detector give the same version; the new version becomes the newest of the dataset.

    Args:
        config: Form of the run.
        storage: Root.
        settings: Name the registry, if it is a server.

    Returns:
        The new version.

    Raises:
        ModelError: There is no such model.
        ConfigError: There is no such dataset.
        CrrgError: An operator wants work to stop.
        StorageError: A patient was removed from it while this ran.
    """
    check_not_stopped(storage, "nothing was grounded")
    dataset = resolve_dataset(storage, config.dataset, config.dataset_version)
    ref = resolve_bundle(config.model, storage, settings).ref
    bundle = read_bundle(storage, ref)
    from crrg.device import resolve_device
    from crrg.models.detector import load_detector

    device = resolve_device(config.device)
    weights = bundle.files["detector.safetensors"]
    detector = load_detector(bundle.spec["stages"]["detector"], weights, device)
    shaping = {
        **read_manifest(storage, dataset)["settings"],
        "grounding": f"detector:{GROUNDING_VERSION}",
        "detector_sha256": bundle.spec["files"]["detector.safetensors"],
        "min_score": config.min_score,
    }
    pairs = chain.from_iterable(read_pairs(storage, dataset, split) for split in Split)
    num_pairs = sum(dataset.num_rows.values())
    plan = _KeepRows(storage, dataset, shaping)
    rows = plan.noted(grounded_pairs(pairs, detector, device, min_score=config.min_score, num_pairs=num_pairs))
    grounded = write_dataset(storage, dataset.name, rows, shaping, plan)
    write_audit(
        storage,
        "ground",
        subject=f"{grounded.name}/{grounded.version}",
        bundle_id=ref.bundle_id,
        inputs=(dataset.version,),
        writes={grounded.manifest_key: storage.sha256(grounded.manifest_key)},
        counts={"rows": num_pairs},
    )
    logger.info("dataset %s: version %s grounded as version %s", dataset.name, dataset.version, grounded.version)
    return grounded


class _KeepRows:
    """Leaves every row where it is and describes the new version; a ``WritePlan``."""

    def __init__(self, storage: Storage, dataset: DatasetRef, shaping: Mapping[str, Any]) -> None:
        """Remember what the new version is made of."""
        self._storage, self._dataset, self._shaping = storage, dataset, dict(shaping)
        self._splits: list[Split | None] = []
        self._card = DataCard()

    def noted(self, pairs: Iterator[Pair]) -> Iterator[Pair]:
        """Yield rows and remember their splits."""
        for pair in pairs:
            self._splits.append(pair.split)
            yield pair

    def splits(self) -> Sequence[Split | None]:
        """Return the split that each row had."""
        return self._splits

    def see(self, row: Mapping[str, Any], split: Split, acquisition: Acquisition) -> None:
        """Count a row for the card."""
        self._card.add(row, split, acquisition)

    def record(self, dataset: DatasetRef) -> Mapping[str, Any]:
        """Write the card; what its rows do not show is what the earlier version's card says of its ingest.

        Raises:
            StorageError: A patient was removed from the earlier version meanwhile; nothing was committed.
        """
        check_still_whole(self._storage, self._dataset)
        key = f"{version_prefix(self._dataset)}/{CARD_FIGURES[0]}"
        earlier = self._storage.get_json(key) if self._storage.exists(key) else {}
        num_rows = len(self._splits)
        about = {
            "num_inputs": num_rows,
            "num_accepted": num_rows,
            "num_quarantined": 0,
            "reasons": {},
            "leaks": {"near_duplicate_pairs": 0, "groups_across_splits": 0, "rows_moved": 0},
            "image_size": self._shaping["image_size"],
            **{name: earlier[name] for name in _KEPT_FIGURES if name in earlier},
            "name": dataset.name,
            "version": dataset.version,
            "settings": self._shaping,
        }
        card = write_card(self._storage, version_prefix(dataset), self._card, about)
        return {"grounded_from": self._dataset.version, "card": card}


def grounded_pairs(
    pairs: Iterator[Pair], detector: RegionDetector, device: torch.device, *, min_score: float = 0.0, num_pairs: int = 0
) -> Iterator[Pair]:
    """Yield rows in their order, frontal films with boxes and phrases.

    Args:
        pairs: Rows; a few dozen are held in memory.
        detector: In ``eval`` mode.
        device: Where it is.
        min_score: Least score 0..1 of a box that is kept; a region below it stays un-annotated.
        num_pairs: How many rows there are, for the progress; 0 where that is unknown.
    """
    num_done, say = 0, count_progress("grounding", "rows")
    while waiting := list(islice(pairs, FILMS_AT_ONCE)):
        yield from _ground_all(waiting, detector, device, min_score)
        num_done += len(waiting)
        say(num_done, num_pairs)


def _ground_all(
    pairs: Sequence[Pair], detector: RegionDetector, device: torch.device, min_score: float
) -> Iterator[Pair]:
    films = [pair.film for pair in pairs if pair.film is not None and needs_boxes(pair)]
    boxes = iter(_find(films, detector, device, min_score))
    for pair in pairs:
        yield ground_by_detector(pair, next(boxes), label_report) if needs_boxes(pair) else pair


def _find(
    films: Sequence[Film], detector: RegionDetector, device: torch.device, min_score: float
) -> list[dict[str, BoxXyxy]]:
    """Return the detected boxes of films in original pixels; regions that were not detected are left out."""
    if not films:
        return []
    import numpy as np

    from crrg.data.images import model_input
    from crrg.training.detector import detect_films

    size = detector.architecture.input_size
    found = detect_films(detector, np.stack([model_input(film.pixels, size) for film in films]), device)
    is_kept = found.detected & (found.scores >= min_score)
    rows = []
    for film, boxes, kept in zip(films, found.input_boxes_xyxy.numpy(), is_kept.tolist(), strict=True):
        original = film.letterbox(size).to_original(boxes.astype(float))
        corners = dict(zip(REGIONS, original.tolist(), strict=True))
        row: dict[str, BoxXyxy] = {}
        for region, is_found in zip(REGIONS, kept, strict=True):
            x1, y1, x2, y2 = corners[region]
            if is_found and x2 > x1 and y2 > y1:
                row[region] = (x1, y1, x2, y2)
        rows.append(row)
    return rows
