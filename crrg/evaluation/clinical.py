"""Clinical efficacy: are the findings that a draft states those of the reference?

Knows label values and what was read for them; texts are read by ``labeler``. Two families of figures use different
label maps and must not be compared: *micro* counts an uncertain label as positive, *example* counts only label 1.

Source: Smit et al., CheXbert, EMNLP 2020 (micro-5, micro-14); Nicolson et al. 2023 (example-based), as in RGRG.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import FINDINGS, LABELS, POSITIVE, UNCERTAIN, LabelValues, label_column
from crrg.domain.study import Pair
from crrg.evaluation.bootstrap import ratio
from crrg.evaluation.labeler import label_report

FIVE_LABELS: tuple[str, ...] = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")


def read_labels(texts: Sequence[str]) -> list[dict[str, int | None]]:
    """Return the rule labeler's values of each text."""
    return [label_report(text) for text in texts]


def positive_matrix(
    values: Sequence[LabelValues], labels: Sequence[str] = LABELS, *, uncertain_is_positive: bool = True
) -> NDArray[np.bool_]:
    """Return which labels count as positive ``[B, K]``; unmentioned and missing count as negative."""
    positive = {POSITIVE, UNCERTAIN} if uncertain_is_positive else {POSITIVE}
    matrix = [[value.get(label) in positive for label in labels] for value in values]
    return np.array(matrix, dtype=bool).reshape(len(values), len(labels))


def score_labels(
    candidates: Sequence[LabelValues],
    references: Sequence[LabelValues],
    counted: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Score the labels of drafts against reference labels.

    Args:
        candidates: Labels of each draft, e.g. from ``read_labels``.
        references: Drawn truth, or the labeler's values of the reference reports, in the same order.
        counted: Of which of the 14 labels of each reference ``[B, 14]`` anything is known (``known_labels``); of all by
            default.

    Returns:
        Figures in 0..1: ``clinical/micro_f1`` (with ``_precision``, ``_recall``, ``_accuracy``) over the 13 findings,
        the main figure; ``micro14_*`` with "No Finding"; ``micro5_*``; ``example14_*``; ``macro_f1`` over those of the
        13 that are found or wanted; ``clinical/<label>_f1`` (with ``_precision``, ``_recall``) per label. A ratio
        without a denominator is 0.
    """
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates but {len(references)} references: give one reference each")
    counted = np.ones((len(references), len(LABELS)), dtype=np.bool_) if counted is None else counted
    found, wanted = positive_matrix(candidates) & counted, positive_matrix(references) & counted
    figures: dict[str, float] = {}
    for name, labels in (("micro", FINDINGS), ("micro14", LABELS), ("micro5", FIVE_LABELS)):
        at = columns_of(labels)
        _add(figures, name, *precision_recall_f1(found[:, at], wanted[:, at]))
        right, size = accuracy_counts(found[:, at], wanted[:, at], counted[:, at]).sum(axis=0)
        figures[f"clinical/{name}_accuracy"] = float(right / size) if size else 0.0
    *examples, accuracy = _example_based(candidates, references, counted)
    _add(figures, "example14", *examples)
    figures["clinical/example14_accuracy"] = accuracy
    for i, label in enumerate(LABELS):
        _add(figures, label_column(label), *precision_recall_f1(found[:, i], wanted[:, i]))
    sums = [decision_counts(found[:, [i]], wanted[:, [i]]).sum(axis=0) for i in columns_of(FINDINGS)]
    macro_f1 = macro_f1_from_counts(np.concatenate(sums))
    figures["clinical/macro_f1"] = 0.0 if np.isnan(macro_f1) else macro_f1
    return figures


def score_clinical(
    texts: Sequence[str], references: Sequence[LabelValues], counted: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """Read the labels of drafts and score them against reference labels; see ``score_labels``."""
    return score_labels(read_labels(texts), references, counted)


def precision_recall_f1(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return precision, recall and F1 over all entries of two equally shaped arrays; 0 without a denominator."""
    hits = float((found & wanted).sum())
    num_found, num_wanted = float(found.sum()), float(wanted.sum())
    precision = hits / num_found if num_found else 0.0
    recall = hits / num_wanted if num_wanted else 0.0
    f1 = 2 * hits / (num_found + num_wanted) if num_found + num_wanted else 0.0
    return precision, recall, f1


def micro_f1_counts(
    candidates: Sequence[LabelValues],
    references: Sequence[LabelValues],
    counted: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return per report the sums that ``clinical/micro_f1`` is made of, for a bootstrap.

    Args:
        candidates: Labels of each draft.
        references: Labels of each reference.
        counted: Of which of the 14 labels of each reference ``[B, 14]`` anything is known (``known_labels``); of all by
            default.

    Returns:
        ``[B, 3]``: matches, found and wanted findings; F1 of summed rows is ``2 m / (f + w)``.
    """
    found, wanted = positive_matrix(candidates, FINDINGS), positive_matrix(references, FINDINGS)
    return decision_counts(found, wanted, None if counted is None else counted[:, columns_of(FINDINGS)])


def columns_of(labels: Sequence[str]) -> list[int]:
    """Return the places of labels among the 14."""
    return [LABELS.index(label) for label in labels]


def known_labels(references: Sequence[Pair]) -> NDArray[np.bool_]:
    """Return of which labels ``[B, 14]`` it is known whether a draft of a film that states them is right.

    What a report that was read does not mention counts as negative, as published. Of a film without such a report,
    whose labels come from elsewhere if it has any, what nobody looked for is unknown.
    """
    told = np.array([[pair.labels.get(label) is not None for label in LABELS] for pair in references], dtype=np.bool_)
    was_read = np.array([pair.has_read_report for pair in references], dtype=np.bool_)
    return told.reshape(len(references), len(LABELS)) | was_read[:, None]


def decision_counts(
    found: NDArray[np.bool_], wanted: NDArray[np.bool_], counted: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return matches, found and wanted of each row ``[B, 3]``, of the entries ``[B, K]`` that count; all by default."""
    counted = np.ones(np.shape(wanted), dtype=np.bool_) if counted is None else counted
    parts = (found & wanted & counted, found & counted, wanted & counted)
    return np.stack([part.sum(axis=1) for part in parts], axis=1).astype(float)


def accuracy_counts(
    found: NDArray[np.bool_], wanted: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return of each row ``[B, 2]`` how many of the entries ``[B, K]`` that count are right, and how many count."""
    return np.stack([((found == wanted) & counted).sum(axis=1), counted.sum(axis=1)], axis=1).astype(float)


def example_scores(
    candidates: Sequence[LabelValues], references: Sequence[LabelValues], counted: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return precision, recall, F1, accuracy of each report over all labels ``[B, 4]``; an uncertain one is negative.

    Their means are the example-based figures. ``counted`` is as of ``micro_f1_counts``; NaN where no label counts.
    """
    found = positive_matrix(candidates, uncertain_is_positive=False)
    wanted = positive_matrix(references, uncertain_is_positive=False)
    counted = np.ones(wanted.shape, dtype=np.bool_) if counted is None else counted
    scores = [precision_recall_f1(f & c, w & c) for f, w, c in zip(found, wanted, counted, strict=True)]
    right, size = accuracy_counts(found, wanted, counted).T
    accuracy = right / np.maximum(size, 1)
    per_report = np.column_stack([np.array(scores, dtype=float).reshape(len(found), 3), accuracy])
    return np.where(counted.any(axis=1, keepdims=True), per_report, np.nan)


def f1_from_counts(counts: NDArray[np.float64]) -> float:
    """Return F1 of summed counts ``[3]``: matches, found, wanted; NaN where nothing is found or wanted."""
    return ratio(np.array([2 * counts[0], counts[1] + counts[2]]))


def macro_f1_from_counts(counts: NDArray[np.float64]) -> float:
    """Return the mean F1 of labels from their summed counts ``[K * 3]``, of those that are found or wanted.

    NaN where none is. A label that is neither says nothing of the drafts. As 0 it would pull the figure down, and in a
    sample of the patients it happens more often than in all of them: the interval would lie below its value.
    """
    known = [f1 for each in counts.reshape(-1, 3) if not np.isnan(f1 := f1_from_counts(each))]
    return float(np.mean(known)) if known else float("nan")


def precision_from_counts(counts: NDArray[np.float64]) -> float:
    """Return precision of summed counts ``[3]``: matches, found, wanted; NaN where nothing is found."""
    return ratio(counts[[0, 1]])


def recall_from_counts(counts: NDArray[np.float64]) -> float:
    """Return recall of summed counts ``[3]``: matches, found, wanted; NaN where nothing is wanted."""
    return ratio(counts[[0, 2]])


def _example_based(
    candidates: Sequence[LabelValues], references: Sequence[LabelValues], counted: NDArray[np.bool_]
) -> tuple[float, float, float, float]:
    scores = example_scores(candidates, references, counted)
    scores = scores[~np.isnan(scores).any(axis=1)]
    precision, recall, f1, accuracy = scores.mean(axis=0).tolist() if len(scores) else (0.0, 0.0, 0.0, 0.0)
    return precision, recall, f1, accuracy


def _add(figures: dict[str, float], name: str, precision: float, recall: float, f1: float) -> None:
    figures[f"clinical/{name}_precision"] = precision
    figures[f"clinical/{name}_recall"] = recall
    figures[f"clinical/{name}_f1"] = f1
