"""What of ``crrg`` carries it: one run each without one of its differences from ``paper``, from the stage concerned on.

A run takes the stages before from the first run of ``crrg``, with the same learning rates, seed and CPU seconds, so
that nothing else differs.
"""

from __future__ import annotations

from benchmarks.generation_quality.contenders import Ours
from crrg.config.training import PresetTraining

CHANGES: dict[str, tuple[str, dict[str, object]]] = {
    "no-region-identity": ("selector", {"region_embedding": False}),
    "no-flags": ("generator", {"condition_on_findings": False}),
    "token-table-positions": ("generator", {"position_table": "wte"}),
}
"""Ablation: the stage it changes, and how."""


def ablated(settings: PresetTraining, name: str) -> Ours:
    """Return ``crrg`` without one thing."""
    stage, update = CHANGES[name]
    part = getattr(settings, stage)
    changed = part.model_copy(update={"architecture": part.architecture.model_copy(update=update)})
    return Ours(settings.model_copy(update={stage: changed}), name)
