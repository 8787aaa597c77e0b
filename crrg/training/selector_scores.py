"""What the selector says of validation films: the thresholds that are chosen there, and how good it is with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crrg.device import in_batches
from crrg.domain.labels import FINDINGS, LABELS, NUM_LABELS
from crrg.domain.regions import NUM_REGIONS
from crrg.evaluation.classification import mean_auc, roc_auc
from crrg.evaluation.detection import score_selection
from crrg.inference.regions import RegionThresholds, select_regions
from crrg.models.region_heads import RegionSelector
from crrg.training.region_films import RegionFilms
from crrg.training.region_targets import RegionTargets, study_scores
from crrg.training.thresholds import count_threshold, f1_threshold, micro_f1_thresholds

JUDGE_BATCH = 32
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Judgements:
    """The selector's probabilities on films.

    Attributes:
        selection: ``[N, R]``.
        abnormal: ``[N, R]``.
        findings: ``[N, R, 14]``.
    """

    selection: FloatArray
    abnormal: FloatArray
    findings: FloatArray


@torch.no_grad()
def judge_films(model: RegionSelector, films: RegionFilms, device: torch.device) -> Judgements:
    """Return the selector's probabilities on films; the module must be in ``eval`` mode.

    Raises:
        DeviceMemoryError: The device's memory does not suffice for one film.
    """

    def work(first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
        images = torch.from_numpy(films.images[first:last])[:, None].to(device)
        judged = model(images, torch.from_numpy(films.boxes[first:last]).to(device))
        return judged.selection_logits.cpu(), judged.abnormal_logits.cpu(), judged.finding_logits.cpu()

    parts = in_batches(len(films.images), JUDGE_BATCH, work)
    if not parts:
        none = np.zeros((0, NUM_REGIONS), dtype=np.float32)
        return Judgements(none, none, np.zeros((0, NUM_REGIONS, NUM_LABELS), dtype=np.float32))
    return Judgements(*(torch.cat(logits).float().sigmoid().numpy() for logits in zip(*parts, strict=True)))


def choose_thresholds(judged: Judgements, targets: RegionTargets) -> dict[str, Any]:
    """Choose all thresholds on validation films.

    Returns:
        ``selection`` and ``abnormal`` by their F1 over regions; ``findings`` by label, so that the films' labels have
        the highest micro-F1 when a film shows what its surest region shows; ``selection_beside_findings`` so that
        drafts of films that show a finding speak of as many regions as their reports do.
    """
    findings = micro_f1_thresholds(study_scores(judged.findings), targets.study)
    selection = f1_threshold(judged.selection, targets.selection)
    is_over: NDArray[np.bool_] = judged.findings[..., : len(FINDINGS)] >= np.array(findings[: len(FINDINGS)])
    shows_finding = np.asarray(is_over.any(axis=-1))
    flagged = shows_finding.any(axis=1)
    return {
        "selection": selection,
        "selection_beside_findings": count_threshold(
            judged.selection[flagged], shows_finding[flagged], targets.selection[flagged], default=selection
        ),
        "abnormal": f1_threshold(judged.abnormal, targets.abnormal),
        "findings": dict(zip(LABELS, findings, strict=True)),
    }


def findings_auc(judged: Judgements, targets: RegionTargets) -> float:
    """Return the mean AUC of the films' findings by their surest regions; NaN where no finding is known both ways."""
    return mean_auc(study_scores(judged.findings).astype(float), targets.study.astype(float))


def selector_metrics(judged: Judgements, targets: RegionTargets, thresholds: Mapping[str, Any]) -> dict[str, float]:
    """Measure the selector on validation films; a figure about which nothing is known is left out."""
    metrics: dict[str, float] = {}
    known = np.isfinite(targets.selection)
    if (targets.selection == 1).any():
        wanted = targets.selection[known] == 1
        chosen = select_regions(
            judged.selection, judged.findings, RegionThresholds.from_config({"thresholds": thresholds})
        )
        metrics |= score_selection(chosen[known], wanted)
        metrics["selection/always_select_f1"] = score_selection(np.ones_like(wanted), wanted)["selection/f1"]
    scores = study_scores(judged.findings)
    metrics["abnormality/auc"] = roc_auc(judged.abnormal.astype(float).ravel(), targets.abnormal.astype(float).ravel())
    metrics["region_findings/mean_auc"] = findings_auc(judged, targets)
    metrics["region_findings/micro_f1"] = _micro_f1(scores, targets.study, thresholds["findings"])
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def _micro_f1(scores: FloatArray, study: FloatArray, thresholds: Mapping[str, float]) -> float:
    known = np.isfinite(study)
    called = (scores >= np.array([thresholds[label] for label in LABELS])) & known
    wanted = known & (study == 1)
    size = int(called.sum() + wanted.sum())
    return 2 * int((called & wanted).sum()) / size if size else float("nan")
