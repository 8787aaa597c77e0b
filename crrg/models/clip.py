"""CLIP for radiographs: two towers, a shared space, a temperature and a label head.

Knows tensors only. Prompts are in ``crrg.inference.prompts``, losses in ``crrg.training.losses``, the mapping from
logits to probabilities in ``crrg.inference.calibration``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from crrg.config.models import ClipArchitecture
from crrg.errors import ModelError
from crrg.models.backbone import normalise_films
from crrg.models.towers import ImageFeatures, TextTower, build_image_tower
from crrg.models.weights import load_module

FIRST_LOGIT_SCALE = math.log(1 / 0.07)
MAX_LOGIT_SCALE = math.log(100.0)
FIRST_CELL_LOGIT = -7.0
NO_PLACE_LOGIT = -30.0
EVIDENCE_CELLS = 4
EVIDENCE_SCALE = 2.0


@dataclass(frozen=True)
class FilmReading:
    """What one pass of the image tower gives.

    Attributes:
        image_features: ``[B, D]``, length 1.
        label_logits: ``[B, 14]`` in the order of ``LABELS``, not calibrated.
        cell_logits: ``[B, 14, h, w]``: how much each place of the film speaks for each label.
    """

    image_features: Tensor
    label_logits: Tensor
    cell_logits: Tensor


class LabelHead(nn.Module):
    """14 logits per film: what its places say together, plus what the whole film says."""

    def __init__(self, feature_size: int, num_channels: int, architecture: ClipArchitecture) -> None:
        """Build the head; at first every place says "rather not", so that many quiet places do not add up."""
        super().__init__()
        self.whole = nn.Sequential(
            nn.Dropout(architecture.head_dropout), nn.Linear(feature_size, architecture.num_labels)
        )
        self.places = nn.Conv2d(num_channels, architecture.num_labels, 1)
        self.places.bias = nn.Parameter(torch.full((architecture.num_labels,), FIRST_CELL_LOGIT))

    def forward(self, seen: ImageFeatures) -> tuple[Tensor, Tensor]:
        """Return label logits ``[B, 14]`` and cell logits ``[B, 14, h, w]``, both float32."""
        cell_logits = self.places(seen.cells).float()
        return pool_cells(cell_logits) + self.whole(seen.raw).float(), cell_logits


def pool_cells(cell_logits: Tensor, is_counted: Tensor | None = None) -> Tensor:
    """Return one logit per label from all places: the logarithm of their summed odds.

    Args:
        cell_logits: ``[B, 14, h, w]``.
        is_counted: bool, broadcastable to the same shape; all where not given. A label without a counted place gets a
            very low logit.
    """
    if is_counted is not None:
        cell_logits = cell_logits.masked_fill(~is_counted, NO_PLACE_LOGIT)
    return cell_logits.flatten(2).logsumexp(dim=2)


def evidence_of(label_logits: Tensor, cell_logits: Tensor) -> Tensor:
    """Return ``[B, 14 * 17]``: each label's logit, and its strongest sign in each of 4 x 4 fields of the film.

    It tells the shared space what is seen and on which side, which one pooled feature of the film hardly can. It passes
    no gradient, so that the contrastive loss does not move what labels and places say.
    """
    signs = functional.adaptive_max_pool2d(cell_logits.detach(), EVIDENCE_CELLS).sigmoid()
    return torch.cat([label_logits.detach() / EVIDENCE_SCALE, EVIDENCE_SCALE * signs.flatten(1)], dim=1)


class ClipModel(nn.Module):
    """Films and texts in one space, and 14 label logits per film.

    Attributes:
        architecture: Sizes and switches.
        logit_scale: Natural logarithm of the inverse temperature; see ``scale``.

    Source: CXR-CLIP (You et al., MICCAI 2023); the clamp of the temperature: CLIP (Radford et al., 2021).
    """

    def __init__(self, architecture: ClipArchitecture) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.architecture = architecture
        self.image_tower = build_image_tower(architecture)
        self.text_tower = TextTower(architecture)
        num_evidence = architecture.num_labels * (1 + EVIDENCE_CELLS**2)
        self.image_projection = nn.Linear(self.image_tower.feature_size + num_evidence, architecture.projection_size)
        self.text_projection = nn.Linear(self.text_tower.feature_size, architecture.projection_size)
        self.label_head = LabelHead(self.image_tower.feature_size, self.image_tower.num_channels, architecture)
        self.logit_scale = nn.Parameter(torch.tensor(FIRST_LOGIT_SCALE))

    @property
    def scale(self) -> Tensor:
        """Inverse temperature, at most 100."""
        return self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()

    def read_films(self, images: Tensor) -> FilmReading:
        """Embed and label films in one pass.

        Args:
            images: Grey values 0..255, ``[B, 1, S, S]``, any dtype.
        """
        seen = self.image_tower(normalise_films(images))
        label_logits, cell_logits = self.label_head(seen)
        raw = torch.cat([seen.raw.float(), evidence_of(label_logits, cell_logits)], dim=1)
        features = functional.normalize(self.image_projection(raw).float(), dim=-1)
        return FilmReading(image_features=features, label_logits=label_logits, cell_logits=cell_logits)

    def encode_image(self, images: Tensor) -> Tensor:
        """Return features ``[B, D]`` of length 1 of films ``[B, 1, S, S]`` with grey values 0..255."""
        return self.read_films(images).image_features

    def label_logits(self, images: Tensor) -> Tensor:
        """Return uncalibrated label logits ``[B, 14]`` of films ``[B, 1, S, S]`` with grey values 0..255."""
        return self.read_films(images).label_logits

    def encode_text(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return features ``[B, D]`` of length 1 of token ids ``[B, L]`` with their mask (1 token, 0 padding)."""
        raw = self.text_tower(token_ids, attention_mask)
        return functional.normalize(self.text_projection(raw).float(), dim=-1)


def load_clip(config: Mapping[str, Any], tensors: bytes, device: torch.device) -> ClipModel:
    """Build a CLIP model from its ``config.json`` and ``model.safetensors``, ready for inference.

    Args:
        config: Has ``architecture``, as ``ClipArchitecture`` dumps it.
        tensors: safetensors bytes.
        device: Where to put it.

    Raises:
        ModelError: The architecture is not valid, or the tensors do not fit it.
    """
    try:
        model = ClipModel(ClipArchitecture.model_validate(config["architecture"]))
    except (KeyError, ValidationError) as error:
        raise ModelError(f"config.json has no valid architecture: {error}", "clip") from error
    load_module(model, tensors, "clip")
    return model.to(device).eval()
