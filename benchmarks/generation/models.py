"""Both sides of the measurement on one set of random weights of the published size, and the films they read."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.generation.encoder import OurEncoder, PublishedEncoder
from benchmarks.generation.published import PUBLISHED_SIZES, FullModel, full_model, random_film, save_published
from benchmarks.resumable.identity import code_digest, libraries
from crrg.config.models import DecodingSettings
from crrg.importers.rgrg import import_rgrg
from crrg.importers.torch_file import open_torch_file
from crrg.models.backbone import normalise_films
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import FeatureSelector
from crrg.models.report_generator import ReportGenerator

Kind = TypeVar("Kind")
Side = Literal["published", "ours", "fast"]
WEIGHTS = "full_model.pt"
WEIGHTS_ORIGIN = "full_model.json"
DRAWING = [Path(__file__), Path(__file__).with_name("published.py")]
SEED = 20261124
END_ID = 50256
MOST_FILMS = 32
EQUAL_LENGTH = 28
SHORTEST, MEDIAN, LONGEST, SPREAD = 4, 13, 60, 0.5
SELECTED_SHARE = 0.34
SMALL_ANCHORS = 0.17
"""By how much objectness falls with the logarithm of an anchor's area: some 820 proposals survive then, else 710."""
WANTED_LOGIT = -1.0


class Words:
    """Spells tokens as numbers."""

    end_id = END_ID
    placeholder_id = -1

    def decode(self, ids: tuple[int, ...]) -> str:
        """Return ``w`` and the number of each token."""
        return " ".join(f"w{i}" for i in ids)


@dataclass
class Ours:
    """Our networks with the published weights.

    Attributes:
        detector: Imported from the published file.
        selector: As the detector.
        generator: As the detector.
        decoding: The paper's settings, as imported.
        import_s: Seconds that reading the file took.
    """

    detector: RegionDetector
    selector: FeatureSelector
    generator: ReportGenerator
    decoding: DecodingSettings
    import_s: float


@dataclass
class Inputs:
    """What both sides are given.

    Attributes:
        films: Grey values ``[32, 1, 512, 512]``.
        lengths: Words per region of each film ``[32, 29]``, log-normal.
        encoder: Our sentence encoder.
        published_encoder: The other side's, with the same weights.
    """

    films: Tensor
    lengths: list[list[int]]
    encoder: OurEncoder
    published_encoder: PublishedEncoder


@dataclass
class Sides:
    """The published layout, ours, and what both are given."""

    published: FullModel
    ours: Ours
    inputs: Inputs

    def __getitem__(self, side: Side) -> FullModel | Ours:
        """Return the networks of a side; ours has two, exact and fast."""
        return self.published if side == "published" else self.ours


def build(folder: Path) -> Sides:
    """Return both sides with the weights of the folder, which are drawn where it has none."""
    write_weights(folder)
    return Sides(read_published(folder), read_ours(folder), draw_inputs())


def write_weights(folder: Path) -> None:
    """Draw the weights and write them in the published layout, unless the folder has those of this code."""
    file, origin = folder / WEIGHTS, folder / WEIGHTS_ORIGIN
    drawn_by = {"libraries": libraries(), "code": code_digest(DRAWING)}
    if file.is_file() and origin.is_file() and json.loads(origin.read_text()) == drawn_by:
        return
    origin.unlink(missing_ok=True)
    published = full_model(SEED, PUBLISHED_SIZES)
    _make_lively(published)
    _favour_small_anchors(published)
    _select_a_third(published, _films(2))
    new = file.with_suffix(".new")
    save_published(published, new)
    new.replace(file)
    origin.write_text(json.dumps(drawn_by))


def read_published(folder: Path) -> FullModel:
    """Return the published layout with the weights of the folder."""
    model = FullModel(PUBLISHED_SIZES).eval()
    with open_torch_file(folder / WEIGHTS) as contents:
        named = {**contents.tensors, **{alias: contents.tensors[name] for alias, name in contents.aliases.items()}}
        model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in named.items()})
    return model


def read_ours(folder: Path) -> Ours:
    """Import the weights of the folder."""
    start = time.perf_counter()
    stages = {stage.stage: stage for stage in import_rgrg(folder / WEIGHTS)}
    return Ours(
        detector=_as(stages["detector"].module.eval(), RegionDetector),
        selector=_as(stages["selector"].module.eval(), FeatureSelector),
        generator=_as(stages["generator"].module.eval(), ReportGenerator),
        decoding=DecodingSettings.model_validate(stages["generator"].config["decoding"]),
        import_s=time.perf_counter() - start,
    )


def draw_inputs() -> Inputs:
    """Draw films, lengths and the encoder's weights, the same in every call."""
    rng = np.random.default_rng(SEED)
    drawn = np.exp(rng.normal(np.log(MEDIAN), SPREAD, size=(MOST_FILMS, 29)))
    encoder = OurEncoder(SEED)
    return Inputs(
        films=_films(MOST_FILMS),
        lengths=drawn.round().clip(SHORTEST, LONGEST).astype(int).tolist(),
        encoder=encoder,
        published_encoder=PublishedEncoder(encoder),
    )


def _films(count: int) -> Tensor:
    return torch.cat([random_film(100 + number) for number in range(count)])


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
def _favour_small_anchors(model: FullModel) -> None:
    """Have proposals that overlap less, so that as many survive as in the measurements that targets rest on."""
    network = model.object_detector.rpn
    sides = network.anchor_generator.cell_anchors[0]
    area = (sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])
    network.head.cls_logits.bias.sub_(SMALL_ANCHORS * (area.log() - area.log().mean()))


@torch.no_grad()
def _select_a_third(model: FullModel, films: Tensor) -> None:
    """Shift the selection so that a film has about ten sentences."""
    _, _, features = model.object_detector(normalise_films(films))
    classifier = model.binary_classifier_region_selection.classifier
    logits = classifier(features).flatten()
    threshold = logits.quantile(1 - SELECTED_SHARE)
    classifier[4].weight.div_(logits.std())
    classifier[4].bias.sub_(classifier[4].bias + (threshold - classifier[4].bias) / logits.std() - WANTED_LOGIT)
