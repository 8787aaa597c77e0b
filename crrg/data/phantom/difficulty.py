"""How hard a drawn cohort is, by the simplest methods there are: mean boxes, tiny pixels, exposure.

A cohort on which these do well would prove nothing about a model. The same functions serve the tests and the
benchmark, and the demo's baselines can be checked against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crrg.data.phantom.exposure import MAX_VALUE
from crrg.data.phantom.painter import PaintedFilm, paint
from crrg.data.phantom.sampler import sample_scene
from crrg.data.phantom.scene import Scene
from crrg.domain.boxes import Letterbox, box_iou
from crrg.domain.labels import FINDINGS
from crrg.domain.regions import REGIONS
from crrg.domain.study import ViewPosition

THUMBNAIL_SIDE = 32


@dataclass(frozen=True)
class FilmSample:
    """What the simple methods see of ``N`` drawn films.

    Attributes:
        scenes: The studies.
        thumbnails: White-is-dense pixels 0..1 of the films in a padded 32-pixel square, ``[N, 1024]``.
        boxes: Region boxes in the padded unit square, ``[N, 29, 4]``.
        labels: 1 or 0 for the 13 findings, ``[N, 13]``.
        exposure: Mean, spread, AP, MONOCHROME1, width, height of each film, ``[N, 6]``.
    """

    scenes: tuple[Scene, ...]
    thumbnails: NDArray[np.float64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    exposure: NDArray[np.float64]

    def part(self, rows: slice) -> FilmSample:
        """Return some of the films."""
        return FilmSample(
            self.scenes[rows], self.thumbnails[rows], self.boxes[rows], self.labels[rows], self.exposure[rows]
        )


def paint_sample(seed: int, indices: Sequence[int], size: int) -> FilmSample:
    """Paint studies and keep what the simple methods need.

    Args:
        seed: Seed of the cohort.
        indices: Numbers of the studies.
        size: Longer side of the films in pixels.
    """
    scenes = tuple(sample_scene(seed, index) for index in indices)
    thumbnails, boxes, exposure = [], [], []
    for scene in scenes:
        film = paint(scene, seed, size)
        grey = dense_white(film)
        thumbnails.append(_thumbnail(grey))
        height, width = grey.shape
        corners = np.array([film.boxes[region] for region in REGIONS])
        boxes.append(Letterbox(width, height, 1000).to_input(corners) / 1000)
        is_ap, is_inverted = scene.view_position is ViewPosition.AP, film.photometric == "MONOCHROME1"
        exposure.append([grey.mean(), grey.std(), float(is_ap), float(is_inverted), width, height])
    labels = [[scene.labels[label] for label in FINDINGS] for scene in scenes]
    return FilmSample(scenes, np.array(thumbnails), np.array(boxes), np.array(labels), np.array(exposure))


def dense_white(film: PaintedFilm) -> NDArray[np.float64]:
    """Return a film's grey values 0..1 with white for dense, ``[H, W]``."""
    stored = film.pixels if film.photometric == "MONOCHROME2" else MAX_VALUE - film.pixels
    return np.asarray(stored / MAX_VALUE)


def mean_box_iou(train: FilmSample, test: FilmSample) -> NDArray[np.float64]:
    """Return each region's mean IoU on ``test`` when every film gets the mean box of ``train``, ``[29]``."""
    return np.asarray(box_iou(train.boxes.mean(axis=0)[None], test.boxes).mean(axis=0))


def thumbnail_auc(train: FilmSample, test: FilmSample) -> dict[str, float]:
    """Return each finding's AUC on ``test`` by logistic regression on 32x32 pixels; absent labels are left out."""
    return _auc_by_label(train.thumbnails, train.labels, test.thumbnails, test.labels, 0.01)


def exposure_auc(train: FilmSample, test: FilmSample) -> dict[str, float]:
    """Return each finding's AUC on ``test`` by mean, spread, projection, polarity and size of the film alone."""
    return _auc_by_label(train.exposure, train.labels, test.exposure, test.labels, 1.0)


def mild_share(scenes: Sequence[Scene]) -> float:
    """Return the share of drawn findings that are mild; 0 where there are none."""
    grades = [finding.grade for scene in scenes for finding in scene.findings]
    return grades.count("mild") / len(grades) if grades else 0.0


def _auc_by_label(
    train_x: NDArray[Any], train_y: NDArray[Any], test_x: NDArray[Any], test_y: NDArray[Any], strength: float
) -> dict[str, float]:
    scores = {}
    for i, label in enumerate(FINDINGS):
        if len(np.unique(train_y[:, i])) < 2 or len(np.unique(test_y[:, i])) < 2:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        model.fit(train_x, train_y[:, i])
        scores[label] = float(roc_auc_score(test_y[:, i], model.decision_function(test_x)))
    return scores


def _thumbnail(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = grey.shape
    letterbox = Letterbox(width, height, THUMBNAIL_SIDE)
    inner_width, inner_height = letterbox.inner_size
    left, top = letterbox.offset
    square = np.zeros((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    small = cv2.resize(grey, (inner_width, inner_height), interpolation=cv2.INTER_AREA)
    square[top : top + inner_height, left : left + inner_width] = small
    return square.reshape(-1)
