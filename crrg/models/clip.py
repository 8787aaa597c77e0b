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
from torch import Tensor, nn
from torch.nn import functional

from crrg.config.models import ClipArchitecture
from crrg.errors import ModelError
from crrg.models.backbone import normalise_films
from crrg.models.clip_heads import EVIDENCE_CELLS, build_label_head, build_projection, evidence_of
from crrg.models.text_towers import build_text_tower
from crrg.models.towers import build_image_tower
from crrg.models.weights import load_network

FIRST_LOGIT_SCALE = math.log(1 / 0.07)
MAX_LOGIT_SCALE = math.log(100.0)
FIRST_SIGMOID_SCALE = math.log(10.0)
FIRST_LOGIT_BIAS = -10.0


@dataclass(frozen=True)
class FilmReading:
    """What one pass of the image tower gives.

    Attributes:
        image_features: ``[B, D]``, length 1.
        label_logits: ``[B, 14]`` in the order of ``LABELS``, not calibrated; as many columns as the label head has.
        cell_logits: ``[B, 14, h, w]``: how much each place of the film speaks for each label.
    """

    image_features: Tensor
    label_logits: Tensor
    cell_logits: Tensor


class ClipModel(nn.Module):
    """Films and texts in one space, and label logits per film.

    Attributes:
        architecture: Sizes and switches.
        logit_scale: Natural logarithm of the inverse temperature; see ``scale``.
        pixel_mean: Of scaled grey values, ``[1, C, 1, 1]``.
        pixel_std: The same of their standard deviation.
        logit_bias: What the sigmoid loss adds to every scaled similarity, where the architecture has it.

    Source: CXR-CLIP (You et al., MICCAI 2023); the clamp of the temperature: CLIP (Radford et al., 2021); first scale
    and bias of the sigmoid loss: SigLIP (Zhai et al., ICCV 2023).
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, architecture: ClipArchitecture) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.architecture = architecture
        self.image_tower = build_image_tower(architecture)
        feature_size, num_channels = self.image_tower.feature_size, self.image_tower.num_channels
        if architecture.text_tower != "none":
            self.text_tower = build_text_tower(architecture)
            num_evidence = architecture.num_labels * (1 + EVIDENCE_CELLS**2) if architecture.projects_evidence else 0
            self.image_projection = build_projection(feature_size + num_evidence, architecture)
            self.text_projection = build_projection(self.text_tower.feature_size, architecture)
        self.label_head = build_label_head(feature_size, num_channels, architecture)
        has_bias = architecture.logit_bias
        self.logit_scale = nn.Parameter(torch.tensor(FIRST_SIGMOID_SCALE if has_bias else FIRST_LOGIT_SCALE))
        self.logit_bias = nn.Parameter(torch.tensor(FIRST_LOGIT_BIAS)) if has_bias else None
        for name in ("pixel_mean", "pixel_std"):
            value = torch.tensor(getattr(architecture, name)).reshape(1, -1, 1, 1)
            self.register_buffer(name, value, persistent=False)

    @property
    def scale(self) -> Tensor:
        """Inverse temperature, at most 100 unless the architecture lets it run."""
        if not self.architecture.clamp_temperature:
            return self.logit_scale.exp()
        return self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()

    @torch.no_grad()
    def hold_scale(self) -> None:
        """Set a temperature that a step took too far back to its limit; beyond it no gradient would bring it back."""
        if self.architecture.clamp_temperature:
            # a little below it, since the limit itself may be rounded to the far side of it
            self.logit_scale.clamp_(max=MAX_LOGIT_SCALE - 1e-6)

    def read_films(self, images: Tensor) -> FilmReading:
        """Embed and label films in one pass.

        Args:
            images: Grey values 0..255, ``[B, 1, S, S]``, any dtype.

        Returns:
            Without a text tower the features are the image tower's own, not projected.
        """
        seen = self.image_tower(normalise_films(images, self.pixel_mean, self.pixel_std, self.architecture.pixel_scale))
        moves_tower = self.architecture.head_moves_tower
        label_logits, cell_logits = self.label_head(seen if moves_tower else seen.detached())
        raw = seen.raw.float()
        if self.architecture.projects_evidence:
            raw = torch.cat([raw, evidence_of(label_logits, cell_logits)], dim=1)
        if self.architecture.text_tower != "none":
            raw = self.image_projection(raw).float()
        features = functional.normalize(raw, dim=-1)
        return FilmReading(image_features=features, label_logits=label_logits, cell_logits=cell_logits)

    def encode_image(self, images: Tensor) -> Tensor:
        """Return features ``[B, D]`` of length 1 of films ``[B, 1, S, S]`` with grey values 0..255."""
        return self.read_films(images).image_features

    def label_logits(self, images: Tensor) -> Tensor:
        """Return uncalibrated label logits ``[B, 14]`` of films ``[B, 1, S, S]`` with grey values 0..255."""
        return self.read_films(images).label_logits

    def encode_text(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return features ``[B, D]`` of length 1 of token ids ``[B, L]`` with their mask (1 token, 0 padding).

        Raises:
            ModelError: The model has no text tower.
        """
        if self.architecture.text_tower == "none":
            raise ModelError("this model has no text tower; it reads labels of films only", "clip")
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
    return load_network(ClipModel, ClipArchitecture, config, tensors, "clip", device)
