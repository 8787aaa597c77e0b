"""What is to be said of each region: its feature, whether it deserves a sentence, and which findings it shows.

The region encoder is a network of its own, started from the detector's backbone where the shapes fit: finding a region
and judging it want different features. Knows tensors only; boxes are in model-input pixels. Training is in
``crrg.training.selector``.

Source: region selection and abnormality heads of RGRG (Tanida et al., CVPR 2023); the finding head is our addition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from crrg.config.models import SelectorArchitecture
from crrg.errors import ModelError
from crrg.models.backbone import ConvBackbone, build_backbone, normalise_films
from crrg.models.roi_cut import cut_out
from crrg.models.weights import load_module

LEAST_SHARE = 1e-3
"""Nothing starts as rarer than this: a logit of minus infinity would never learn."""


@dataclass(frozen=True)
class RegionOutputs:
    """What the selector says of every region.

    Attributes:
        features: ``[B, R, D]``.
        selection_logits: ``[B, R]``, whether the region deserves a sentence.
        abnormal_logits: ``[B, R]``, whether the sentence would describe an abnormality.
        finding_logits: ``[B, R, 14]``, which labels the region shows, in the order of ``LABELS``.
    """

    features: Tensor
    selection_logits: Tensor
    abnormal_logits: Tensor
    finding_logits: Tensor


class RegionSelector(nn.Module):
    """Encodes the 29 regions of a film and judges each.

    Attributes:
        architecture: Sizes it was built with.
    """

    def __init__(self, architecture: SelectorArchitecture) -> None:
        """Build the network with random weights."""
        super().__init__()
        if architecture.backbone == "detector":
            raise ModelError("the detector's features are judged by FeatureSelector", "selector architecture")
        self.architecture = architecture
        self.backbone = build_backbone(architecture.backbone, architecture.width, architecture.input_size)
        has_detail = architecture.detail_channels > 0
        if has_detail and not isinstance(self.backbone, ConvBackbone):
            raise ModelError("detail_channels needs the conv backbone; set it to 0", "selector architecture")
        self.detail = _DetailMap(self.backbone.num_channels, architecture.detail_channels) if has_detail else None
        self.stride = self.backbone.stride // 2 if has_detail else self.backbone.stride
        num_channels = architecture.detail_channels or self.backbone.num_channels
        num_bins = architecture.roi_size**2 if architecture.keep_layout else 2
        size = architecture.feature_size
        self.region = nn.Linear(num_channels * num_bins, size)
        self.film = nn.Linear(2 * self.backbone.num_channels, size)
        self.norm = nn.LayerNorm(size)
        self.identity = nn.Embedding(architecture.num_regions, size) if architecture.region_embedding else None
        self.dropout = nn.Dropout(architecture.dropout)
        self.selection = _JudgementHead(architecture, 1)
        self.abnormal = _JudgementHead(architecture, 1)
        self.finding = _JudgementHead(architecture, architecture.num_labels)

    def forward(self, images: Tensor, input_boxes_xyxy: Tensor) -> RegionOutputs:
        """Judge the regions of films.

        Args:
            images: Films ``[B, 1, S, S]``, grey values 0..255.
            input_boxes_xyxy: ``[B, R, 4]`` in pixels of this network's input.
        """
        films = normalise_films(images)
        if self.detail is not None and isinstance(self.backbone, ConvBackbone):
            fine, coarse = self.backbone.levels(films)
            features = self.detail(fine, coarse)
        else:
            features = coarse = self.backbone(films)
        hidden = self.region(self._pool(features, input_boxes_xyxy))
        film = torch.cat([coarse.mean(dim=(2, 3)), coarse.amax(dim=(2, 3))], dim=1)
        hidden = hidden + self.film(film)[:, None]
        if self.identity is not None:
            hidden = hidden + self.identity.weight
        hidden = self.dropout(torch.relu(self.norm(hidden)))
        return RegionOutputs(
            hidden, self.selection(hidden)[..., 0], self.abnormal(hidden)[..., 0], self.finding(hidden)
        )

    def start_from(self, backbone_state: Mapping[str, Tensor]) -> bool:
        """Take over a detector's backbone where every name and shape fits; return whether it did."""
        own = self.backbone.state_dict()
        fits = own.keys() == backbone_state.keys() and all(own[n].shape == t.shape for n, t in backbone_state.items())
        if fits:
            self.backbone.load_state_dict(backbone_state)
        return fits

    @torch.no_grad()
    def start_at(self, selection: Tensor, abnormal: Tensor, findings: Tensor) -> None:
        """Start from usual shares in 0..1: ``[R]``, ``[R]``, ``[R, 14]``; without region identity nothing is done."""
        heads = (self.selection, self.abnormal, self.finding)
        for head, shares in zip(heads, (selection[:, None], abnormal[:, None], findings), strict=True):
            if head.usual is not None:
                head.usual.copy_(torch.logit(shares, eps=LEAST_SHARE))

    def _pool(self, features: Tensor, boxes: Tensor) -> Tensor:
        num_films, num_regions, _ = boxes.shape
        size = self.architecture.roi_size
        margin = self.architecture.margin * (boxes[..., 2:] - boxes[..., :2])
        wide = torch.cat([boxes[..., :2] - margin, boxes[..., 2:] + margin], dim=-1)
        wide = wide.clamp(0, self.architecture.input_size).float()
        pooled = cut_out(features.float(), wide.unbind(), size, 1 / self.stride, self.architecture.roi_samples)
        if self.architecture.keep_layout:
            return pooled.reshape(num_films, num_regions, -1)
        both = torch.cat([pooled.mean(dim=(2, 3)), pooled.amax(dim=(2, 3))], dim=1)
        return both.reshape(num_films, num_regions, -1)


class _DetailMap(nn.Module):
    """Joins the backbone's map with the finer one it was made from: a catheter is thinner than one coarse cell."""

    def __init__(self, num_coarse: int, num_channels: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(num_coarse // 2, num_channels, 1)
        self.top = nn.Conv2d(num_coarse, num_channels, 1)
        self.join = nn.Sequential(
            nn.Conv2d(num_channels, num_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(num_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        top = nn.functional.interpolate(self.top(coarse), size=fine.shape[-2:], mode="bilinear")
        joined: Tensor = self.join(self.lateral(fine) + top)
        return joined


class _JudgementHead(nn.Module):
    """Three linear layers shared by all regions, and what is usual for each region."""

    def __init__(self, architecture: SelectorArchitecture, num_outputs: int) -> None:
        super().__init__()
        size = architecture.feature_size
        self.layers = nn.Sequential(
            nn.Linear(size, size // 2), nn.ReLU(), nn.Linear(size // 2, size // 4), nn.ReLU(),
            nn.Linear(size // 4, num_outputs),
        )  # fmt: skip
        usual = torch.zeros(architecture.num_regions, num_outputs)
        self.usual = nn.Parameter(usual) if architecture.region_embedding else None

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.layers(features)
        return logits if self.usual is None else logits + self.usual


class FeatureSelector(nn.Module):
    """The paper's heads: they judge the detector's own region features, the same way for every region.

    A region that was not detected has no feature worth the name; who uses the judgements leaves it out.

    Attributes:
        architecture: Sizes it was built with; ``width`` is the length of the detector's features.
    """

    def __init__(self, architecture: SelectorArchitecture) -> None:
        """Build the heads with random weights."""
        super().__init__()
        self.architecture = architecture
        self.dim_reduction = nn.Linear(architecture.width, architecture.feature_size)
        self.selection = _paper_head(architecture.feature_size)
        self.abnormal = _paper_head(architecture.feature_size)

    def forward(self, region_features: Tensor) -> RegionOutputs:
        """Judge regions by the detector's features ``[B, R, C]``; findings of regions are not known to these heads."""
        features = self.dim_reduction(region_features)
        unknown = features.new_full((*features.shape[:2], self.architecture.num_labels), -torch.inf)
        return RegionOutputs(features, self.selection(features)[..., 0], self.abnormal(features)[..., 0], unknown)


def _paper_head(size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(size, size // 2), nn.ReLU(), nn.Linear(size // 2, size // 8), nn.ReLU(), nn.Linear(size // 8, 1)
    )


AnySelector: TypeAlias = RegionSelector | FeatureSelector


def load_selector(config: Mapping[str, Any], tensors: bytes, device: torch.device) -> AnySelector:
    """Return a trained selector in ``eval`` mode.

    Args:
        config: The stage's ``config.json``; its ``architecture`` decides the sizes.
        tensors: Content of ``model.safetensors``.
        device: Where it is to run.

    Raises:
        ModelError: Names or shapes do not fit the architecture.
    """
    architecture = SelectorArchitecture.model_validate(config["architecture"])
    model: AnySelector = (
        FeatureSelector(architecture) if architecture.backbone == "detector" else RegionSelector(architecture)
    )
    load_module(model, tensors, "selector")
    return model.to(device).eval()
