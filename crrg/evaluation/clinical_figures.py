"""Clinical efficacy as RGRG reports it, from the values that a labeler such as CheXbert read in drafts and reports.

Source: Tanida et al., CVPR 2023: micro figures over five and over 14 labels, example-based ones over 14.
"""

from __future__ import annotations

from collections.abc import Sequence

from crrg.domain.labels import LABELS, LabelValues
from crrg.evaluation.baselines import all_positive_labels
from crrg.evaluation.bootstrap import Statistic, mean_statistic
from crrg.evaluation.clinical import FIVE_LABELS, example_f1, f1_from_counts, micro_f1_counts
from crrg.evaluation.scorecard import Figure


def labeler_figures(
    labeler: str, candidates: Sequence[LabelValues], references: Sequence[LabelValues], patient_ids: Sequence[str]
) -> list[Figure]:
    """Return the three figures with 95 % intervals over patients, each beside the claim of every finding.

    Args:
        labeler: What read the values; the family of the figures.
        candidates: What it read in each draft.
        references: What it read in each report.
        patient_ids: Patient of each pair.

    Returns:
        ``micro5_f1``, ``micro14_f1`` and ``example14_f1``; none without a pair.
    """
    if not candidates:
        return []
    figures = []
    for name in ("micro5", "micro14", "example14"):
        found, simple = (
            _statistic(name, drafts, references) for drafts in (candidates, all_positive_labels(len(references)))
        )
        low, high = found.interval(patient_ids)
        figures.append(Figure(f"{labeler}/{name}_f1", found.value(), low, high, "all positive", simple.value()))
    return figures


def _statistic(name: str, candidates: Sequence[LabelValues], references: Sequence[LabelValues]) -> Statistic:
    if name == "example14":
        return mean_statistic(example_f1(candidates, references))
    labels = FIVE_LABELS if name == "micro5" else LABELS
    return Statistic(micro_f1_counts(candidates, references, labels), f1_from_counts)
