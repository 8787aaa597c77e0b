"""Lung boxes on real films, out of fold: a detector trained on other patients, one trained on drawings, the mean box.

Folds are groups of patients; whatever is learnt or averaged for a film comes from films of other groups. The films say
left and right lung and nothing else, so that the detector of 29 regions is trained on partial annotation. Boxes are
compared in the pixels of the original pictures; a region that was not detected counts as 0.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.real.lungs import SIDES, lung_references
from benchmarks.real.training_data import LUNGS
from crrg.config.base import Preset
from crrg.config.presets import preset_training
from crrg.config.training import Augmentation, DetectorTraining
from crrg.data.dataset.batches import UNKNOWN, UNMENTIONED, FilmTable
from crrg.data.images import model_input
from crrg.device import seed_everything
from crrg.domain.boxes import Letterbox
from crrg.domain.labels import NUM_LABELS
from crrg.domain.regions import NUM_REGIONS, REGION_INDEX
from crrg.domain.report import Report
from crrg.errors import DataError
from crrg.evaluation.bootstrap import Statistic, bootstrap_sums, ratio
from crrg.evaluation.detection import mean_box, mean_box_candidates, region_iou
from crrg.models.detector import RegionDetector
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, config_hash
from crrg.training.detector import (
    ANNOTATED_COLOUR,
    CODE_VERSION,
    FOUND_COLOUR,
    batch_maker,
    calibrate_shape,
    detect_films,
    detector_loss,
)
from crrg.training.loop import fit
from crrg.training.tracker import NullTracker

NUM_FOLDS = 5
NUM_STEPS = 350
LUNG_PRESET: Preset = "tiny"
"""Of the detector that is trained on films, whatever the bundle beside it."""
COLUMNS = [REGION_INDEX[side] for side in SIDES]
CPU = torch.device("cpu")
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LungFilms:
    """The films, in the order of the collection's table.

    Attributes:
        films: Ready for the detector; boxes of the two lungs, NaN for every other region.
        boxes: float ``[N, 29, 4]`` in pixels of the pictures.
        groups: Group of patients of each film.
        has_mask: bool ``[N]``, whether the box is the extent of an outline; the other boxes were drawn as boxes.
    """

    films: FilmTable
    boxes: FloatArray
    groups: list[str]
    has_mask: NDArray[np.bool_]


def read_lung_films(open_data: Path, size: int) -> LungFilms:
    """Read films and boxes.

    Args:
        open_data: Folder of the collections.
        size: Side of the detector's input, pixels.

    Raises:
        DataError: A picture cannot be read.
    """
    folder = open_data / LUNGS
    references, groups = lung_references(folder)
    names = film_names(folder)
    boxes = np.full((len(names), NUM_REGIONS, 4), np.nan)
    pictures = []
    for row, name in enumerate(names):
        picture = cv2.imread(str(folder / "images" / name), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise DataError(
                f"the picture of film {row} cannot be read; fetch the collection again", LUNGS, code="PARSE"
            )
        pictures.append(np.asarray(picture, dtype=np.uint8))
        for side, box in references[name].items():
            boxes[row, REGION_INDEX[side]] = box
    with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
        masked = {row["image"] for row in csv.DictReader(file) if row["has_mask"] == "1"}
    return LungFilms(
        film_table(pictures, boxes, size, [groups[name] for name in names]),
        boxes,
        [groups[name] for name in names],
        np.array([name in masked for name in names]),
    )


def film_names(folder: Path) -> list[str]:
    """Return the pictures that have a box, in the order of the collection's table; a place here is a film's number."""
    references, groups = lung_references(folder)
    return [name for name in groups if name in references]


def film_table(pictures: Sequence[NDArray[np.uint8]], boxes: FloatArray, size: int, groups: list[str]) -> FilmTable:
    """Return pictures and their boxes ``[N, 29, 4]``, in their pixels, as a table for a detector of input ``size``."""
    num = len(pictures)
    sizes = np.array([picture.shape[::-1] for picture in pictures], dtype=np.int32)
    frames = [Letterbox(int(width), int(height), size) for width, height in sizes]
    return FilmTable(
        images=np.stack([model_input(picture, size) for picture in pictures]),
        original_sizes=sizes,
        input_boxes_xyxy=np.stack([f.to_input(row) for f, row in zip(frames, boxes, strict=True)]).astype(np.float32),
        phrases=[{} for _ in pictures],
        is_abnormal=np.full((num, NUM_REGIONS), UNKNOWN, dtype=np.int8),
        labels=np.full((num, NUM_LABELS), UNMENTIONED, dtype=np.int8),
        reports=[""] * num,
        texts=[Report()] * num,
        patient_ids=groups,
        instance_ids=[str(row) for row in range(num)],
    )


def folds_of_groups(groups: Sequence[str], num_folds: int = NUM_FOLDS, seed: int = 0) -> NDArray[np.int64]:
    """Return the fold of each film ``[N]``: whole groups, the largest first, each into the fold that has fewest films.

    Args:
        groups: Group of each film.
        num_folds: How many folds.
        seed: Decides the order of groups of equal size.
    """
    names, counts = np.unique(np.array(groups), return_counts=True)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(names)), -counts))
    sizes = np.zeros(num_folds, dtype=np.int64)
    fold: dict[str, int] = {}
    for row in order:
        fold[str(names[row])] = int(sizes.argmin())
        sizes[sizes.argmin()] += counts[row]
    return np.array([fold[group] for group in groups], dtype=np.int64)


def take(films: FilmTable, rows: NDArray[np.int64]) -> FilmTable:
    """Return some of the films."""
    numbers = rows.tolist()
    return FilmTable(
        images=films.images[rows],
        original_sizes=films.original_sizes[rows],
        input_boxes_xyxy=films.input_boxes_xyxy[rows],
        phrases=[films.phrases[row] for row in numbers],
        is_abnormal=films.is_abnormal[rows],
        labels=films.labels[rows],
        reports=[films.reports[row] for row in numbers],
        texts=[films.texts[row] for row in numbers],
        patient_ids=[films.patient_ids[row] for row in numbers],
        instance_ids=[films.instance_ids[row] for row in numbers],
    )


def lung_piece(num_steps: int, seed: int, device: torch.device = CPU) -> str:
    """Return how the folds of a training are called in the table: a detector that learns otherwise has its own."""
    return f"lungs/{_learns(num_steps)}/{num_steps}/{seed}{'' if device == CPU else f'-{device.type}'}"


def is_current(piece: str) -> bool:
    """Return whether a row of the table is no fold of a detector that learnt otherwise."""
    parts = piece.split("/")
    if parts[0] != "lungs" or parts[1] == "drawn-only":
        return True
    return parts[1].startswith("code-") and parts[1] == _learns(int(parts[2]))


def _learns(num_steps: int) -> str:
    """Return the version of the training, and the digest of what the preset says of it."""
    settings = lung_training(num_steps).model_dump(mode="json")
    return f"code-{CODE_VERSION}-{config_hash(settings=settings)[:8]}"


def lung_training(num_steps: int = NUM_STEPS) -> DetectorTraining:
    """Return the settings: the detector of ``tiny``, and more augmentation, since real films differ more than drawn."""
    settings = preset_training(LUNG_PRESET).detector
    augmentation = Augmentation(scale=0.15, stretch=0.08, shift=0.08, gamma=0.4, contrast=0.3, noise=8.0)
    loop = settings.loop.model_copy(update={"num_steps": num_steps})
    return settings.model_copy(update={"loop": loop, "augmentation": augmentation})


def train_on(
    films: FilmTable, settings: DetectorTraining, seed: int, storage: Storage, device: torch.device = CPU
) -> RegionDetector:
    """Train a detector from random weights on films; a call that was stopped is gone on with, on the same device."""
    size = settings.architecture.input_size
    parts = {"settings": settings.model_dump(mode="json"), "films": films.instance_ids, "device": device.type}
    folder = StageFolder(storage, "lungs", config_hash(code=CODE_VERSION, seed=seed, **parts))
    seed_everything(seed)
    model = RegionDetector(settings.architecture).to(device)
    model.fit_regions(torch.from_numpy(films.input_boxes_xyxy / size).to(device))
    fit(
        model,
        batch_maker(films, settings, seed, device),
        detector_loss(model),
        settings.loop,
        device=device,
        folder=folder,
        tracker=NullTracker(),
    )
    model.eval()
    calibrate_shape(model, films, device)
    return model


def measure_fold(
    lungs: LungFilms, fold: int, settings: DetectorTraining, seed: int, storage: Storage, device: torch.device = CPU
) -> dict[str, Any]:
    """Train on all other folds and find the lungs of this one, beside the mean box of the other folds.

    Returns:
        Per film number: IoU of the right and left lung (``None`` where nobody drew it), found and by the mean box, the
        boxes found in the pictures' pixels, and how many films were trained on.
    """
    folds = folds_of_groups(lungs.groups, seed=seed)
    own, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
    if {lungs.groups[row] for row in own} & {lungs.groups[row] for row in others}:
        raise AssertionError("unreachable: a fold is made of whole groups")
    model = train_on(take(lungs.films, others), settings, seed, storage, device)
    sizes = lungs.films.original_sizes.astype(float)
    means = mean_box_candidates(mean_box(lungs.boxes[others], sizes[others]), sizes[own])
    return {"num_training_films": len(others), "films": found_lungs(model, lungs, own, means)}


def found_lungs(
    model: RegionDetector, lungs: LungFilms, rows: NDArray[np.int64], means: FloatArray
) -> dict[str, dict[str, list[Any]]]:
    """Return, by film number, the lungs that a detector finds and their IoU, beside that of means ``[B, 29, 4]``."""
    found = detect_films(model, lungs.films.images[rows], next(model.parameters()).device)
    boxes = in_pictures(found.input_boxes_xyxy.numpy(), lungs.films.original_sizes[rows], lungs.films.images.shape[-1])
    truth, detected = lungs.boxes[rows][:, COLUMNS], found.detected.numpy()[:, COLUMNS]
    overlaps = np.where(detected, region_iou(boxes[:, COLUMNS], truth), np.where(np.isnan(truth[..., 0]), np.nan, 0.0))
    by_mean = region_iou(means[:, COLUMNS], truth)
    return {
        str(row): {
            "iou": _plain(overlaps[number]),
            "mean_box": _plain(by_mean[number]),
            "detected": detected[number].tolist(),
            "boxes": boxes[number, COLUMNS].round(2).tolist(),
        }
        for number, row in enumerate(rows.tolist())
    }


def in_pictures(input_boxes: NDArray[np.float32], sizes: NDArray[np.int32], size: int) -> FloatArray:
    """Return boxes ``[B, R, 4]`` of inputs of side ``size`` in the pixels of pictures of ``sizes`` ``[B, 2]``."""
    frames = [Letterbox(int(width), int(height), size) for width, height in sizes]
    return np.stack([frame.to_original(row.astype(float)) for frame, row in zip(frames, input_boxes, strict=True)])


def _plain(values: FloatArray) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 5) for value in values]


def summarise(films: Mapping[str, Mapping[str, Any]], lungs: LungFilms) -> dict[str, Any]:
    """Return the figures of the films measured so far.

    Args:
        films: What ``found_lungs`` said, by film number.
        lungs: The films.

    Returns:
        Mean IoU of both lungs (the mean of each side's mean over films) with its 95 % interval over groups of patients,
        of each lung, of the films with outlines, of the mean box, the share detected, and the worst film by its number
        in the collection's table.
    """
    rows = sorted(int(name) for name in films)
    overlaps = np.array([films[str(row)]["iou"] for row in rows], dtype=float)
    by_mean = np.array([films[str(row)]["mean_box"] for row in rows], dtype=float)
    detected = np.array([films[str(row)]["detected"] for row in rows])
    groups = [lungs.groups[row] for row in rows]
    per_film = np.nanmean(overlaps, axis=1)
    outlined = lungs.has_mask[rows]
    worst = int(np.nanargmin(per_film))
    mean = _mean_of_sides(overlaps)
    return {
        "num_films": len(rows),
        "num_groups": len(set(groups)),
        "mean_iou": mean.value(),
        "interval": list(bootstrap_sums(mean.counts, mean.combine, groups)),
        **{f"iou_{side.replace(' ', '_')}": float(np.nanmean(overlaps[:, i])) for i, side in enumerate(SIDES)},
        "mean_iou_outlined": mean.value(np.flatnonzero(outlined)) if outlined.any() else None,
        "mean_box_iou": _mean_of_sides(by_mean).value(),
        "detected_share": float(detected[np.isfinite(overlaps)].mean()),
        "share_at_50": float((overlaps[np.isfinite(overlaps)] >= 0.5).mean()),
        "worst_film": rows[worst],
        "worst_iou": float(per_film[worst]),
    }


def _mean_of_sides(overlaps: FloatArray) -> Statistic:
    """Return the mean over sides of the mean over films of ``[N, 2]``, NaN where nobody drew a side."""
    known = np.isfinite(overlaps)
    counts = np.concatenate([np.where(known, overlaps, 0.0), known], axis=1)
    return Statistic(counts, lambda sums: float(np.mean([ratio(pair) for pair in sums.reshape(2, -1).T])))


def worst_picture(open_data: Path, lungs: LungFilms, row: int, boxes: Sequence[Sequence[float]]) -> bytes:
    """Return a PNG of a film with the lungs as found (green) and as people drew them (grey); not for publication."""
    folder = open_data / LUNGS
    picture = cv2.imread(str(folder / "images" / film_names(folder)[row]), cv2.IMREAD_COLOR)
    people = [box for box in lungs.boxes[row, COLUMNS] if not np.isnan(box).any()]
    for box, colour in [*((b, ANNOTATED_COLOUR) for b in people), *((np.array(b), FOUND_COLOUR) for b in boxes)]:
        x1, y1, x2, y2 = np.round(box).astype(int).tolist()
        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 1)
    return bytes(cv2.imencode(".png", picture)[1])
