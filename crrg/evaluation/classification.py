"""Scores finding probabilities against known labels: ranking, decisions, calibration.

Unmentioned and uncertain labels are masked and count nowhere (``known_values``). Knows nothing of models or thresholds'
origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import LABELS, NEGATIVE, UNCERTAIN, LabelValues, label_column

_NUM_BINS = 10


def known_values(labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return what is known of films, of the shape of ``labels``: 1 present, 0 absent, else NaN.

    The one rule of losses, fits and scores: a film's uncertain label says neither, so it is learnt from, fitted on and
    scored nowhere. What a text *states* is another question, in which a possible finding counts as stated
    (``clinical.positive_matrix``, ``crrg.training.region_targets.phrase_findings``).

    Args:
        labels: 1 present, 0 absent, -1 uncertain, -2 unmentioned.
    """
    return np.where(labels >= NEGATIVE, labels, np.nan).astype(np.float64)


def label_matrix(values: Sequence[LabelValues]) -> NDArray[np.float64]:
    """Return label values as ``[B, 14]`` by ``known_values``: 1, 0, or NaN where uncertain or unmentioned."""
    rows = [[value.get(label) for label in LABELS] for value in values]
    matrix = np.array([[UNCERTAIN if each is None else each for each in row] for row in rows], dtype=np.int64)
    return known_values(matrix.reshape(len(values), len(LABELS)))


def score_probabilities(
    probabilities: NDArray[np.float64],
    references: NDArray[np.float64],
    thresholds: NDArray[np.float64] | float = 0.5,
) -> dict[str, float]:
    """Score probabilities against labels.

    Args:
        probabilities: ``[B, 14]`` in 0..1.
        references: ``[B, 14]``: 1, 0, NaN where unknown (``label_matrix``).
        thresholds: One for all, or ``[14]``; at or above is positive.

    Returns:
        ``classification/<label>_auc|auprc|sensitivity|f1|accuracy|ece`` for labels that can be scored, and the means
        over them: ``classification/mean_auc``, ``mean_auprc``, ``mean_sensitivity`` (at a specificity of 0.9),
        ``mean_f1``, ``mean_accuracy``, ``mean_ece``. A label without both values has no AUC, AUPRC or sensitivity.
    """
    columns: dict[str, list[float]] = {}
    figures: dict[str, float] = {}
    limits = np.broadcast_to(np.asarray(thresholds, dtype=float), (probabilities.shape[1],))
    for i, label in enumerate(LABELS):
        for name, value in _score_label(probabilities[:, i], references[:, i], float(limits[i])).items():
            figures[f"classification/{label_column(label)}_{name}"] = value
            columns.setdefault(name, []).append(value)
    figures.update({f"classification/mean_{name}": float(np.mean(values)) for name, values in columns.items()})
    return figures


def mean_auc(probabilities: NDArray[np.float64], references: NDArray[np.float64]) -> float:
    """Return the mean ROC AUC over labels (columns) with both values; NaN where there is none.

    Args:
        probabilities: ``[B, K]``, any scores.
        references: ``[B, K]``: 1, 0, NaN where unknown.
    """
    values = [roc_auc(probabilities[:, i], references[:, i]) for i in range(references.shape[1])]
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def roc_auc(scores: NDArray[np.float64], references: NDArray[np.float64]) -> float:
    """Return the ROC AUC of one label ``[B]`` by mid-ranks; NaN values are left out, NaN without both values."""
    known = ~np.isnan(references)
    scores, positive = scores[known], references[known] == 1
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = ranks[inverse][positive].sum()
    return float((rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def roc_points(
    scores: NDArray[np.float64], references: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ROC curve of one label ``[B]`` as false alarms and hits, both from 0 to 1.

    Films of one score are found together, so that the curve does not depend on their order and the area under it is
    ``roc_auc``; NaN values are left out, and no point is returned without both values.
    """
    known = ~np.isnan(references)
    order = np.argsort(-scores[known], kind="stable")
    ranked, positive = scores[known][order], references[known][order] == 1
    if not positive.any() or positive.all():
        return np.zeros(0), np.zeros(0)
    last_of_tie = np.append(np.diff(ranked) != 0, True)
    alarms, hits = (np.cumsum(each)[last_of_tie] / each.sum() for each in (~positive, positive))
    return np.append(0.0, alarms), np.append(0.0, hits)


def average_precision(scores: NDArray[np.float64], references: NDArray[np.float64]) -> float:
    """Return the average precision of one label ``[B]``, ties taken together; NaN without both values."""
    known = ~np.isnan(references)
    scores, positive = scores[known], references[known] == 1
    if not positive.any() or positive.all():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    hits, places = hits[last_of_tie], np.flatnonzero(last_of_tie) + 1
    steps = np.diff(hits, prepend=0) / hits[-1]
    return float((steps * hits / places).sum())


def sensitivity_at_specificity(
    scores: NDArray[np.float64], references: NDArray[np.float64], specificity: float = 0.9
) -> float:
    """Return the share of positive films found where at least this share of negative films is left alone.

    Args:
        scores: ``[B]``, any range.
        references: ``[B]``: 1, 0, NaN where unknown.
        specificity: 0..1.

    Returns:
        0..1; NaN without both values.
    """
    known = ~np.isnan(references)
    scores, positive = scores[known], references[known] == 1
    if not positive.any() or positive.all():
        return float("nan")
    limits = np.unique(scores)
    specific = np.searchsorted(np.sort(scores[~positive]), limits, side="left") / (~positive).sum()
    allowed = limits[specific >= specificity]
    return float((scores[positive] >= allowed[0]).mean()) if len(allowed) else 0.0


def retrieval_recall(
    similarities: NDArray[np.float64], texts: Sequence[str], ranks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Return how often a film finds its own report among all of them.

    Equal texts are one text, so a film with a common report is not counted wrong for finding its twin. A text that is
    no likelier than others is not found: a tower that gives every text one feature has a recall of 0.

    Args:
        similarities: ``[B, B]``, row i is film i against text j.
        texts: ``[B]`` reports.
        ranks: The k of ``retrieval/recall_at_<k>``.

    Returns:
        Recalls in 0..1 and ``retrieval/num_texts``; empty for no film.
    """
    if not len(texts):
        return {}
    places = retrieval_places(similarities, texts)
    figures = {f"retrieval/recall_at_{k}": float((places <= k).mean()) for k in ranks}
    return {**figures, "retrieval/num_texts": float(len(set(texts)))}


def retrieval_places(similarities: NDArray[np.float64], texts: Sequence[str]) -> NDArray[np.int64]:
    """Return at which place each film finds its own report, ``[B]``, 1 is first.

    Equal texts are one text. Of others that are as similar as the own one, all stand before it.
    """
    _, first, own = np.unique(np.array(texts), return_index=True, return_inverse=True)
    table = similarities[:, first]
    scores = table[np.arange(len(texts)), own]
    return np.asarray((table >= scores[:, None]).sum(axis=1), dtype=np.int64)


def own_phrase_auc(own: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return how surely a film prefers its own phrase of a region to another film's of the same region.

    Args:
        own: Similarity of film and own phrase, ``[P]``.
        other: Similarity of the same film and the other's phrase, ``[P]``.

    Returns:
        Share of pairs in which the own one wins, ties one half; NaN for no pair.
    """
    if not len(own):
        return float("nan")
    return float(((own > other) + 0.5 * (own == other)).mean())


def expected_calibration_error(probabilities: NDArray[np.float64], references: NDArray[np.float64]) -> float:
    """Return the mean gap between probability and frequency over 10 equal bins, weighted by size; 0 without labels."""
    known = ~np.isnan(references)
    probabilities, references = probabilities[known], references[known]
    if not len(references):
        return 0.0
    bins = np.minimum((probabilities * _NUM_BINS).astype(int), _NUM_BINS - 1)
    gap = np.bincount(bins, weights=probabilities - references, minlength=_NUM_BINS)
    return float(np.abs(gap).sum() / len(references))


def majority_accuracy(train_references: NDArray[np.float64], references: NDArray[np.float64]) -> float:
    """Return the mean accuracy over labels of always giving the value that is commoner in training ``[B, 14]``."""
    values = []
    for train, wanted in zip(train_references.T, references.T, strict=True):
        train, wanted = train[~np.isnan(train)], wanted[~np.isnan(wanted)]
        if len(wanted):
            constant = float(len(train) > 0 and train.mean() >= 0.5)
            values.append(float((wanted == constant).mean()))
    return float(np.mean(values)) if values else 0.0


def _score_label(
    probabilities: NDArray[np.float64], references: NDArray[np.float64], threshold: float
) -> dict[str, float]:
    known = ~np.isnan(references)
    if not known.any():
        return {}
    found, wanted = probabilities[known] >= threshold, references[known] == 1
    size = float(found.sum() + wanted.sum())
    figures = {
        "f1": 2 * float((found & wanted).sum()) / size if size else 0.0,
        "accuracy": float((found == wanted).mean()),
        "ece": expected_calibration_error(probabilities, references),
    }
    if wanted.any() and not wanted.all():
        figures["auc"] = roc_auc(probabilities, references)
        figures["auprc"] = average_precision(probabilities, references)
        figures["sensitivity"] = sensitivity_at_specificity(probabilities, references)
    return figures
