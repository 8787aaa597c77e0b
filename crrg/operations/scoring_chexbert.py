"""What CheXbert says of drafts beside their reports, where its weights and vocabulary were imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from crrg.evaluation.clinical_figures import labeler_figures
from crrg.evaluation.scorecard import Scorecard
from crrg.operations.importing import load_report_labeler
from crrg.operations.scoring_cases import Case

FAMILY = "chexbert"


def with_chexbert(scorecard: Scorecard, cases: Sequence[Case], folder: Path, device: torch.device) -> Scorecard:
    """Add the clinical figures of RGRG: findings of the draft against findings of the report, both read by CheXbert.

    Args:
        scorecard: What was scored without it.
        cases: Drafts and references; those without a findings section are left out.
        folder: What ``crrg import chexbert`` wrote to.
        device: Where CheXbert runs.

    Raises:
        ModelError: The folder holds no imported CheXbert with its vocabulary, or it is damaged.
    """
    known = [case for case in cases if case.reference.report.findings]
    labeler = load_report_labeler(folder, device)
    drafts = labeler.label_reports([case.draft.findings for case in known])
    reports = labeler.label_reports([case.reference.report.findings or "" for case in known])
    figures = labeler_figures(FAMILY, drafts, reports, [case.reference.patient_id for case in known])
    return replace(scorecard, figures=(*scorecard.figures, *figures))
