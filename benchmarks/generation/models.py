"""Both sides of the measurement on one set of random weights of the published size, and the films they read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.generation.encoder import SentenceEncoder
from benchmarks.generation.published import PUBLISHED_SIZES, FullModel, full_model, random_film, save_published
from crrg.config.models import DecodingSettings
from crrg.importers.rgrg import import_rgrg
from crrg.models.backbone import normalise_films
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import FeatureSelector
from crrg.models.report_generator import ReportGenerator

Kind = TypeVar("Kind")
SEED = 20261124
END_ID = 50256
MOST_FILMS = 32
EQUAL_LENGTH = 28
SHORTEST, MEDIAN, LONGEST, SPREAD = 4, 13, 60, 0.5
SELECTED_SHARE = 0.34
WANTED_LOGIT = -1.0


class Words:
    """Spells tokens as numbers."""

    end_id = END_ID
    placeholder_id = -1

    def decode(self, ids: tuple[int, ...]) -> str:
        """Return ``w`` and the number of each token."""
        return " ".join(f"w{i}" for i in ids)


@dataclass
class Sides:
    """The published layout, and our networks with the same weights.

    Attributes:
        published: As laid out in the file.
        detector: Ours, imported from that file.
        selector: Ours.
        generator: Ours.
        decoding: The paper's settings, as imported.
        encoder: Sentence encoder of both sides.
        films: Grey values ``[32, 1, 512, 512]``.
        lengths: Words per region of each film ``[32, 29]``, log-normal.
        import_s: Seconds that reading the file took.
    """

    published: FullModel
    detector: RegionDetector
    selector: FeatureSelector
    generator: ReportGenerator
    decoding: DecodingSettings
    encoder: SentenceEncoder
    films: Tensor
    lengths: list[list[int]]
    import_s: float


def build(folder: Path) -> Sides:
    """Draw the weights, write them in the published layout and import them; the file is kept for the next call."""
    torch.manual_seed(SEED)
    films = torch.cat([random_film(100 + number) for number in range(MOST_FILMS)])
    published = full_model(SEED, PUBLISHED_SIZES)
    _make_lively(published)
    _select_a_third(published, films[:2])
    file = folder / "full_model.pt"
    if not file.is_file():
        save_published(published, file)
    start = time.perf_counter()
    stages = {stage.stage: stage for stage in import_rgrg(file)}
    seconds = time.perf_counter() - start
    rng = np.random.default_rng(SEED)
    drawn = np.exp(rng.normal(np.log(MEDIAN), SPREAD, size=(MOST_FILMS, 29)))
    return Sides(
        published=published,
        detector=_as(stages["detector"].module.eval(), RegionDetector),
        selector=_as(stages["selector"].module.eval(), FeatureSelector),
        generator=_as(stages["generator"].module.eval(), ReportGenerator),
        decoding=DecodingSettings.model_validate(stages["generator"].config["decoding"]),
        encoder=SentenceEncoder(SEED),
        films=films,
        lengths=drawn.round().clip(SHORTEST, LONGEST).astype(int).tolist(),
        import_s=seconds,
    )


def _as(module: object, kind: type[Kind]) -> Kind:
    if not isinstance(module, kind):
        raise TypeError(f"expected {kind.__name__}")
    return module


@torch.no_grad()
def _make_lively(model: FullModel) -> None:
    """Undo the damping of GPT-2's start, so that sentences differ from region to region."""
    scale = (2 * len(model.language_model.gpt.h)) ** 0.5
    for block in model.language_model.gpt.h:
        block.attn.c_proj.weight.mul_(scale)
        block.mlp.c_proj.weight.mul_(scale)
        for layer in (block.attn.uk, block.attn.uv):
            layer.weight.mul_(4)


@torch.no_grad()
def _select_a_third(model: FullModel, films: Tensor) -> None:
    """Shift the selection so that a film has about ten sentences."""
    _, _, features = model.object_detector(normalise_films(films))
    classifier = model.binary_classifier_region_selection.classifier
    logits = classifier(features).flatten()
    threshold = logits.quantile(1 - SELECTED_SHARE)
    classifier[4].weight.div_(logits.std())
    classifier[4].bias.sub_(classifier[4].bias + (threshold - classifier[4].bias) / logits.std() - WANTED_LOGIT)
