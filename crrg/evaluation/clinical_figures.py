"""Clinical efficacy with intervals and beside baselines, from values that a labeler read in drafts and reports.

The same figures of every labeler: of the rules, which need no weights, and of one such as CheXbert.

Source: Tanida et al., CVPR 2023: micro figures over five and over 14 labels, example-based ones over 14, F1 of single
labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import FINDINGS, LABELS, LabelValues, label_column
from crrg.evaluation.bootstrap import Resampling, Statistic, mean_statistic, ratio
from crrg.evaluation.clinical import (
    FIVE_LABELS,
    accuracy_counts,
    columns_of,
    decision_counts,
    example_scores,
    f1_from_counts,
    macro_f1_from_counts,
    positive_matrix,
    precision_from_counts,
    recall_from_counts,
)
from crrg.evaluation.compared import compared
from crrg.evaluation.scorecard import Figure

_FAMILIES: Mapping[str, tuple[str, ...]] = {"micro": FINDINGS, "micro5": FIVE_LABELS, "micro14": LABELS}
_PARTS: Mapping[str, Callable[[NDArray[np.float64]], float]] = {
    "f1": f1_from_counts,
    "precision": precision_from_counts,
    "recall": recall_from_counts,
}
_EXAMPLE_COLUMNS = {"f1": 2, "precision": 0, "recall": 1, "accuracy": 3}


def clinical_figures(
    family: str,
    candidates: Sequence[LabelValues],
    references: Sequence[LabelValues],
    samples: Resampling,
    rivals: Mapping[str, Sequence[LabelValues]],
    counted: NDArray[np.bool_] | None = None,
) -> list[Figure]:
    """Return all clinical figures with 95 % intervals over patients, one row per baseline.

    Args:
        family: Of the figures: ``clinical`` where the rule labeler read the drafts, else the labeler's name.
        candidates: What the labeler read in each draft.
        references: Labels of each film, or what the labeler read in its report.
        samples: Samples of the films' patients.
        rivals: What each baseline claims in place of the drafts.
        counted: Of which labels of each film ``[B, 14]`` anything is known (``clinical.known_labels``); all by default.

    Returns:
        The figures of ``clinical.score_labels`` by the same names; of single labels the F1, where a film has the label.
        None where nothing is known of any film.
    """
    counted = np.ones((len(references), len(LABELS)), dtype=np.bool_) if counted is None else counted
    if not counted.any():
        return []
    found = _statistics(candidates, references, counted)
    others = {name: _statistics(values, references, counted) for name, values in rivals.items()}
    of_labels = {_of_label(label) for label in LABELS}
    figures: list[Figure] = []
    for name, statistic in found.items():
        beside = {rival: each[name] for rival, each in others.items()}
        figures += compared(f"{family}/{name}", statistic, samples, beside, is_detail=name in of_labels)
    return figures


def _statistics(
    candidates: Sequence[LabelValues], references: Sequence[LabelValues], counted: NDArray[np.bool_]
) -> dict[str, Statistic]:
    found, wanted = positive_matrix(candidates), positive_matrix(references)
    columns = {name: columns_of(labels) for name, labels in _FAMILIES.items()}
    statistics = {
        f"{name}_{part}": Statistic(decision_counts(found[:, at], wanted[:, at], counted[:, at]), combine, empty=0.0)
        for name, at in columns.items()
        for part, combine in _PARTS.items()
    }
    for name, at in columns.items():
        rows = accuracy_counts(found[:, at], wanted[:, at], counted[:, at])
        statistics[f"{name}_accuracy"] = Statistic(rows, ratio)
    examples = example_scores(candidates, references, counted)
    for part, column in _EXAMPLE_COLUMNS.items():
        statistics[f"example14_{part}"] = mean_statistic(examples[:, column])
    of_label = {
        label: decision_counts(found[:, [at]], wanted[:, [at]], counted[:, [at]]) for at, label in enumerate(LABELS)
    }
    statistics["macro_f1"] = Statistic(
        np.concatenate([of_label[label] for label in FINDINGS], axis=1), macro_f1_from_counts, empty=0.0
    )
    for label, counts in of_label.items():
        if counts[:, 2].any():
            statistics[_of_label(label)] = Statistic(counts, f1_from_counts, empty=0.0)
    return statistics


def _of_label(label: str) -> str:
    return f"{label_column(label)}_f1"
