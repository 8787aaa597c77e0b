"""What the rows of ``make quality-generation`` were made by, so that those of another program are not gone on with.

Films are drawn by one part of the code, drafts rest on networks and inference, figures on all of it and on what scores:
digests of that code are in their names.
Trainings take hours, so that they are named by the versions that stages raise when they learn otherwise. Within a
budget of CPU seconds the processor and the libraries decide too; all other figures are the same on every machine, up to
rounding.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import get_args

import torch

from benchmarks.resumable.identity import code_digest, libraries, of_crrg, processor
from crrg.config.base import Preset
from crrg.config.models import DetectorArchitecture
from crrg.config.presets import preset_training
from crrg.training import detector, generator, paper_stages, selector

CONTEST_VERSION = "1"
"""Raised when the comparison of architectures itself trains otherwise: budgets, trials, what counts."""
DRAFTING = ("inference", "models", "config/models.py", "data/images.py", "data/tokenizer.py", "domain")
DRAWING = ("data/phantom", "operations/phantom.py", "domain")
SCORING = (
    "evaluation", "operations/scoring/score.py", "operations/scoring/cases.py", "operations/scoring/regions.py",
    "operations/scoring/texts.py", "operations/scoring/labels.py", "operations/scoring/groups.py",
)  # fmt: skip
OWN_SCORING = ("cohort.py", "contest_scores.py")
SHOWN_DIGITS = 8


@cache
def drafting_code() -> str:
    """Return the digest of what drafts a film."""
    return code_digest(of_crrg(*DRAFTING))[:SHOWN_DIGITS]


@cache
def drawing_code() -> str:
    """Return the digest of what draws a cohort."""
    return code_digest(of_crrg(*DRAWING))[:SHOWN_DIGITS]


@cache
def scoring_code() -> str:
    """Return the digest of what draws, drafts and scores."""
    own = [Path(__file__).with_name(name) for name in OWN_SCORING]
    return code_digest([*of_crrg(*DRAWING, *DRAFTING, *SCORING), *own])[:SHOWN_DIGITS]


def training_within_budget() -> dict[str, str | int]:
    """Return what decides a training within CPU seconds besides its settings and films."""
    stages = {part.__name__.rsplit(".", 1)[1]: part.CODE_VERSION for part in (detector, selector, generator)}
    return {
        **stages,
        "paper_stages": paper_stages.CODE_VERSION,
        "contest": CONTEST_VERSION,
        "processor": processor(),
        "libraries": libraries(),
        "threads": torch.get_num_threads(),
    }


def is_scored_by_this(name: str) -> bool:
    """Return whether a cohort's row, or that of the bundle's detector on real lungs, is of the present code."""
    if name.startswith(("drawn/", "openi/")):
        return name.endswith(f"/{scoring_code()}")
    return not name.startswith("lungs/drawn-only/") or f"/{drafting_code()}" in name


def preset_of(architecture: DetectorArchitecture) -> str:
    """Return the preset that a detector has the sizes of, or that it is none of the present ones, and its input."""
    for preset in get_args(Preset):
        if preset_training(preset).detector.architecture == architecture:
            return str(preset)
    return f"none of the present ones ({architecture.input_size} px)"
