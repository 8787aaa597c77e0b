"""How well a bundle knows which regions a film shows: test films as they are, and with a part cut off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crrg.config.references import DatasetRef
from crrg.data.dataset.batches import has_boxes, sample_films
from crrg.domain.study import Pair, Split
from crrg.evaluation.bootstrap import bootstrap_interval, error_interval
from crrg.evaluation.classification import expected_calibration_error, roc_auc
from crrg.evaluation.scorecard import Figure, Scorecard
from crrg.inference.visibility import Visibility
from crrg.storage import Storage
from crrg.training.detector import detect_films
from crrg.training.visibility import MAX_FILMS, VisibilityCases, visibility_cases

if TYPE_CHECKING:
    from crrg.inference.pipeline import ReportPipeline

RIVAL = "detector's score"
SEED = 1
"""Of the cuts; training cuts other films by its own."""
FloatArray = NDArray[np.float64]


def with_visibility(
    scorecard: Scorecard,
    pipeline: ReportPipeline,
    dataset: DatasetRef,
    storage: Storage,
    split: Split,
    *,
    is_scored: Callable[[Pair], bool] = lambda _pair: True,
) -> Scorecard:
    """Return the scorecard with how well a pipeline knows which regions films of a split show.

    Args:
        scorecard: Of the same split.
        pipeline: Of a bundle that has ``visibility``; another's scorecard stays as it is.
        dataset: Whose films.
        storage: Root.
        split: Part of the dataset.
        is_scored: Which of its films count.
    """
    visibility, detector = pipeline.visibility, pipeline.detector
    if visibility is None:
        return scorecard
    device = next(detector.parameters()).device
    size = detector.architecture.input_size
    films = sample_films(
        storage, dataset, split, size, MAX_FILMS, keep=lambda pair: has_boxes(pair) and is_scored(pair)
    )
    if not len(films):
        return scorecard
    cases = visibility_cases(films, lambda images: detect_films(detector, images, device).scores.numpy(), SEED)
    figures = visibility_figures(visibility, cases, detector.architecture.score_threshold)
    return replace(scorecard, figures=(*scorecard.figures, *figures))


def visibility_figures(visibility: Visibility, cases: VisibilityCases, score_threshold: float) -> list[Figure]:
    """Return calibration, separation and the operating point, each beside the detector's own score and threshold.

    Args:
        visibility: Of the bundle.
        cases: Test films, whole and cut.
        score_threshold: Score from which the detector itself counts a region as found.

    Returns:
        ``visibility/ece``, ``visibility/auc``, ``visibility/kept_visible`` (share of the visible regions that stay
        visible) and ``visibility/found_missing`` (share of the others that are called not visible), with 95 %
        intervals over patients; empty where nothing is known to be missing.
    """
    truth = np.where(visibility.is_known, cases.visible, np.nan)
    if not (truth == 0).any() or not (truth == 1).any():
        return []
    scores = np.asarray(cases.scores, dtype=np.float64)
    chances = visibility.probabilities(scores)
    shown, found = chances >= visibility.threshold, (scores > 0) & (scores >= score_threshold)

    def figure(
        name: str, counted: NDArray[np.bool_], of: Callable[[FloatArray, NDArray[np.bool_], FloatArray], float]
    ) -> Figure:
        def sampled(rows: NDArray[np.int64]) -> float:
            return of(chances[rows], shown[rows], truth[rows])

        interval = bootstrap_interval(sampled, cases.patient_ids, known=counted)
        value = sampled(np.arange(len(truth)))
        low, high = error_interval(value, interval) if name == "ece" else interval
        rival = of(scores, found, truth)
        return Figure(f"visibility/{name}", value, low, high, RIVAL, rival, lower_is_better=name == "ece")

    known = np.isfinite(truth)
    return [
        figure("ece", known, lambda chance, _, visible: expected_calibration_error(chance.ravel(), visible.ravel())),
        figure("auc", known, lambda chance, _, visible: roc_auc(chance.ravel(), visible.ravel())),
        figure("kept_visible", truth == 1, lambda _, is_shown, visible: _share(is_shown[visible == 1])),
        figure("found_missing", truth == 0, lambda _, is_shown, visible: _share(~is_shown[visible == 0])),
    ]


def _share(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")
