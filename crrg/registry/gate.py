"""Whether a bundle may become champion: fixed floors, and no large fall below the present champion. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from crrg.config.running import Gate
from crrg.domain.study import Split

REGION_IOU = "detection/mean_region_iou"
LABEL_AUC = "classification/mean_auc"
CLINICAL_F1 = "clinical/micro_f1"
ZERO_SHOT_AUC = "classification/zero_shot_mean_auc"


@dataclass(frozen=True)
class GateOutcome:
    """What a gate decided.

    Attributes:
        passed: Whether every condition held.
        failures: Each condition that did not, with expected and found figures.
    """

    passed: bool
    failures: tuple[str, ...]


def check_gate(
    gate: Gate,
    candidate: Mapping[str, float],
    champion: Mapping[str, float] | None = None,
    *,
    split: str = Split.TEST.value,
) -> GateOutcome:
    """Compare a candidate's figures with the gate's floors and with the champion.

    Args:
        gate: The conditions.
        candidate: Figures of the candidate by ``protocol/name``.
        champion: Figures of the champion on the same films, or ``None`` if there is no champion.
        split: Part of the dataset that the figures are of.

    Returns:
        The outcome. Figures of any split but test fail, since bundles are trained and tuned on the others. A figure
        that was not measured, or is not a number, fails a floor above 0; where the champion has a figure and the
        candidate has none, that counts as a fall.
    """
    failures = []
    if split != Split.TEST:
        failures.append(
            f"the figures are of split {split}, on which bundles are trained and tuned; score it on split {Split.TEST}"
        )
    for name, (floor, max_drop) in _conditions(gate).items():
        found = _figure(candidate, name)
        if floor > 0 and not found >= floor:
            failures.append(f"{name} is {_shown(found)}, at least {floor:.3f} is required")
        best = _figure(champion or {}, name)
        if not math.isnan(best) and not found >= best - max_drop:
            failures.append(
                f"{name} is {_shown(found)}, the champion has {best:.3f}, a drop of {max_drop:.3f} is allowed"
            )
    return GateOutcome(passed=not failures, failures=tuple(failures))


def _conditions(gate: Gate) -> dict[str, tuple[float, float]]:
    """Return each figure's floor, and its largest fall below the champion."""
    return {
        REGION_IOU: (gate.min_region_iou, gate.max_drop),
        LABEL_AUC: (gate.min_label_auc, gate.max_drop),
        CLINICAL_F1: (gate.min_clinical_f1, gate.max_drop),
        ZERO_SHOT_AUC: (gate.min_zero_shot_auc, gate.max_zero_shot_drop),
    }


def _figure(figures: Mapping[str, float], name: str) -> float:
    return figures.get(name, math.nan)


def _shown(value: float) -> str:
    return "not measured" if math.isnan(value) else f"{value:.3f}"
