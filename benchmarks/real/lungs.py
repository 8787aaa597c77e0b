"""How well the lungs are found on real films: drafted boxes against boxes that people drew.

No box of these films is trained on. Beside the figure stand two constants: the mean box of the drawn training films,
and the mean box of the other real patients' lungs, which no drawing can know.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.inbox import FileEnd
from benchmarks.real.training_data import FILMS, LUNGS
from crrg.config.references import DatasetRef
from crrg.data.dataset.pairs import read_pairs
from crrg.domain.boxes import box_iou
from crrg.domain.regions import REGION_INDEX
from crrg.domain.study import Split
from crrg.evaluation.bootstrap import bootstrap_mean
from crrg.storage import Storage

SIDES = ("right lung", "left lung")
PREFERRED_SOURCE = "v7labs-mask"
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LungRow:
    """One side's figures, all mean IoU in 0..1.

    Attributes:
        region: The lung.
        num_films: Films with a drawn box and a draft.
        iou: Of the drafted boxes.
        interval: 95 % over patients.
        share_half: Share of films with an IoU of 0.5 or more.
        drawn_mean_box: Of the mean box of the drawn training films.
        real_mean_box: Of the mean box of the other patients.
        share_detected: Share of films on which the detector is sure enough of the region.
    """

    region: str
    num_films: int
    iou: float
    interval: tuple[float, float]
    share_half: float
    drawn_mean_box: float
    real_mean_box: float
    share_detected: float


def lung_rows(open_data: Path, ends: Sequence[FileEnd], drawn_means: Mapping[str, FloatArray]) -> list[LungRow]:
    """Score the drafted lung boxes.

    Args:
        open_data: Folder of the collections.
        ends: What the night made of the films.
        drawn_means: Mean box of each lung on drawn training films, as shares of width and height.

    Returns:
        One row per lung; empty where no film with a drawn box was drafted.
    """
    references, patients = lung_references(open_data / LUNGS)
    drafted = {end.file.key.removeprefix(f"{FILMS}/"): end for end in ends if end.draft is not None}
    rows = []
    for side in SIDES:
        names = sorted(name for name, sides in references.items() if side in sides and name in drafted)
        if names:
            rows.append(_row(side, names, references, patients, drafted, drawn_means[side]))
    return rows


def drawn_mean_boxes(storage: Storage, dataset: DatasetRef) -> dict[str, FloatArray]:
    """Return the mean box of each lung on the annotated training films, as shares of width and height."""
    boxes: dict[str, list[FloatArray]] = {side: [] for side in SIDES}
    for pair in read_pairs(storage, dataset, Split.TRAIN):
        if pair.film is None:
            continue
        size = np.array([pair.film.original_width, pair.film.original_height] * 2, dtype=float)
        for region in pair.regions:
            if region.region in boxes:
                boxes[region.region].append(np.array(region.box_xyxy) / size)
    return {side: np.mean(found, axis=0) for side, found in boxes.items()}


def _row(
    side: str,
    names: Sequence[str],
    references: Mapping[str, Mapping[str, FloatArray]],
    patients: Mapping[str, str],
    drafted: Mapping[str, FileEnd],
    drawn_mean: FloatArray,
) -> LungRow:
    regions = [end.draft.regions[REGION_INDEX[side]] for end in (drafted[name] for name in names) if end.draft]
    candidates = np.array([region.box_xyxy for region in regions])
    truth = np.stack([references[name][side] for name in names])
    sizes = np.array([[drafted[name].file.width, drafted[name].file.height] for name in names], dtype=float)
    scale = np.tile(sizes, 2)
    groups = np.array([patients[name] for name in names])
    others = np.stack([(truth / scale)[groups != group].mean(axis=0) for group in groups])
    iou = np.asarray(box_iou(candidates, truth), dtype=np.float64)
    return LungRow(
        region=side,
        num_films=len(names),
        iou=float(iou.mean()),
        interval=bootstrap_mean(iou, groups.tolist()),
        share_half=float((iou >= 0.5).mean()),
        drawn_mean_box=float(box_iou(drawn_mean * scale, truth).mean()),
        real_mean_box=float(box_iou(others * scale, truth).mean()),
        share_detected=float(np.mean([region.detected for region in regions])),
    )


def lung_references(folder: Path) -> tuple[dict[str, dict[str, FloatArray]], dict[str, str]]:
    """Return the boxes by picture and lung, and the group of patients of each picture."""
    boxes: dict[str, dict[str, FloatArray]] = {}
    with (folder / "boxes.csv").open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["source"] == PREFERRED_SOURCE)
    for row in rows:
        if row["label"] in SIDES:
            corners = np.array([float(row[name]) for name in ("x1", "y1", "x2", "y2")])
            boxes.setdefault(row["image"], {})[row["label"]] = corners
    with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
        groups = {row["image"]: row["case_group"] for row in csv.DictReader(file)}
    return boxes, groups
