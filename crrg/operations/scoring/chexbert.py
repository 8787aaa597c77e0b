"""What CheXbert says of drafts beside their reports, where its weights and vocabulary were imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from crrg.domain.labels import LabelValues
from crrg.evaluation.baselines import all_positive_labels
from crrg.evaluation.bootstrap import Resampling
from crrg.evaluation.clinical_figures import clinical_figures
from crrg.evaluation.scorecard import Figure, Scorecard
from crrg.operations.registry.importing import load_report_labeler
from crrg.operations.scoring.cases import Baselines, Case
from crrg.operations.scoring.texts import Texts, nonempty_only, told_texts

FAMILY = "chexbert"


def with_chexbert(
    scorecard: Scorecard, cases: Sequence[Case], known: Baselines, folder: Path, device: torch.device
) -> Scorecard:
    """Add the clinical figures of RGRG: findings of the draft against findings of the report, both read by CheXbert.

    Beside them stand the claim of every finding and what CheXbert reads in the baselines' texts. An empty draft says
    nothing; where there are some, ``chexbert/…_nonempty_only`` leave them out with their reports, as RGRG does.

    Args:
        scorecard: What was scored without it.
        cases: Drafts and references; those without a findings section are left out.
        known: Baselines of the training dataset.
        folder: What ``crrg import chexbert`` wrote to.
        device: Where CheXbert runs.

    Raises:
        ModelError: The folder holds no imported CheXbert with its vocabulary, or it is damaged.
    """
    told = [case for case in cases if case.reference.report.findings]
    labeler = load_report_labeler(folder, device)
    if not told:
        return scorecard
    texts = told_texts(told, known, known.neighbours(told))
    read = labels_of_each(labeler.label_reports, [texts.drafts, texts.references, *texts.rivals.values()])
    figures = _figures(read, texts)
    if rows := texts.nonempty_rows:
        figures += nonempty_only(_figures([[column[row] for row in rows] for column in read], texts.of_rows(rows)))
    return replace(scorecard, figures=(*scorecard.figures, *figures))


def _figures(read: Sequence[Sequence[LabelValues]], texts: Texts) -> list[Figure]:
    """Return the figures of what was read in drafts, reports and the baselines' texts, in this order."""
    drafts, reports, *others = read
    rivals: dict[str, Sequence[LabelValues]] = {"all positive": all_positive_labels(len(drafts))}
    rivals |= dict(zip(texts.rivals, others, strict=True))
    return clinical_figures(FAMILY, drafts, reports, Resampling(texts.patients), rivals)


def labels_of_each(
    read: Callable[[Sequence[str]], Sequence[LabelValues]], columns: Sequence[Sequence[str]]
) -> list[list[LabelValues]]:
    """Return the labels of several columns of texts; a text that stands several times is read once."""
    different = list(dict.fromkeys(text for column in columns for text in column))
    known = dict(zip(different, read(different), strict=True))
    return [[known[text] for text in column] for column in columns]
