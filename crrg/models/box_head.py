"""Second stage of the detector: which region a proposal shows, and where that region's box is.

Knows tensors only. Which proposals it is trained on is decided in ``region_matching``.

Source: Girshick, Fast R-CNN, 2015; RGRG's sizes (Tanida et al., CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder

from crrg.config.models import DetectorArchitecture
from crrg.device import free_memory
from crrg.models.prepared import Prepared
from crrg.models.products import affine, as_multiplied, project
from crrg.models.pyramid import anchor_groups, level_borders, levels_of
from crrg.models.roi_cut import cut_out, numbered
from crrg.models.roi_map import bin_weights, first_layer, first_layer_by_output, pooled_means
from crrg.models.roi_training import first_layer_with_gradient, is_map_cheaper_to_train

BOX_CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
MAP_ADVANTAGE = 1.6
"""Cells of the map to which the first layer is applied in the time of cutting out and scoring one proposal: at the
paper's size both ways take as long for 160 proposals on 256 cells."""

COPY_BYTES = 1 << 27
"""Largest first layer of which a copy by bins is kept in use."""
CUT_BYTES = 1 << 27
"""Most memory that cut-outs take at one time in use: 256 of them at the paper's size."""
CUT_SHARE = 1 / 8
"""Share of a GPU's free memory that cut-outs take at one time, where that is more: small parts leave it idle."""
MOST_CUT_BYTES = 1 << 31
"""Most on a GPU: 4,096 at the paper's size. torchvision counts values, which may have two bytes, in 32 bits."""


class BoxHead(nn.Module):
    """Scores and box corrections of proposals.

    With a spatial prior it also knows where on the film the proposal lies and what the film as a whole looks like:
    anatomy has a fixed order, which a cut-out alone does not show. With a pyramid a proposal is cut out on the level of
    its size; all levels share the head, and the coarsest says what the film looks like.

    Attributes:
        exact_roi: Whether proposals are cut out one by one, as in published code. Otherwise, on a CPU, films with many
            proposals are scored through the map (``roi_map``, in training ``roi_training``), which is faster and
            differs in the last digits.
    """

    def __init__(self, architecture: DetectorArchitecture, num_channels: int, strides: Sequence[int]) -> None:
        """Build the head for levels of ``num_channels`` at ``strides`` input pixels per cell, the finest first."""
        super().__init__()
        self._size = architecture.input_size
        width = architecture.representation_size
        num_outputs = architecture.num_regions + 1
        self._num_bins, self._num_samples = architecture.roi_size, architecture.roi_samples
        self._scales = [1.0 / stride for stride in strides]
        self._borders = level_borders(anchor_groups(architecture))
        num_reduced = architecture.roi_channels or num_channels
        self.reduce = nn.Conv2d(num_channels, num_reduced, 1) if architecture.roi_channels else nn.Identity()
        self.fc6 = nn.Linear(num_reduced * architecture.roi_size**2, width)
        self.fc7 = nn.Linear(width, width)
        self.cls_score = nn.Linear(width, num_outputs)
        self.bbox_pred = nn.Linear(width, 4 * num_outputs)
        self.exact_roi = False
        self._bin_weights: Prepared[Tensor] = Prepared()
        self.geometry = nn.Linear(6, width, bias=False) if architecture.spatial_prior else None
        self.film = nn.Linear(16 * num_channels, width, bias=False) if architecture.spatial_prior else None

    def forward(self, levels: Sequence[Tensor], proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Score proposals and correct their boxes.

        Args:
            levels: Maps ``[B, C, H, W]``, the finest first; one without a pyramid.
            proposals: One ``[N_i, 4]`` per film, input pixels; N = sum of N_i.

        Returns:
            Class logits ``[N, R + 1]`` with background first, and box codes ``[N, 4 (R + 1)]``, both float32.
        """
        hidden = self._by_level([self.reduce(features) for features in levels], proposals)
        if self.geometry is not None and self.film is not None:
            coarsest = levels[-1]
            counts = torch.tensor([len(boxes) for boxes in proposals], device=coarsest.device)
            film = project(self.film, nn.functional.adaptive_avg_pool2d(coarsest, 4).flatten(start_dim=1))
            hidden = hidden + project(self.geometry, _geometry(torch.cat(proposals), self._size))
            hidden = hidden + film.repeat_interleave(counts, dim=0, output_size=len(hidden))
        hidden = project(self.fc7, torch.relu(hidden), "relu")
        return project(self.cls_score, hidden).float(), project(self.bbox_pred, hidden).float()

    def mean_features(self, levels: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Return the mean over the bins of each box ``[B, R, 4]`` on its level ``[B, C, H, W]``, as ``[B, R, C]``."""
        means = [
            pooled_means(features, boxes, scale, self._num_bins, self._num_samples)
            for features, scale in zip(levels, self._scales, strict=True)
        ]
        if len(means) == 1:
            return means[0]
        own = levels_of(boxes, self._borders)[None, ..., None]
        return torch.stack(means).gather(0, own.expand(-1, -1, -1, means[0].shape[-1]))[0]

    def _by_level(self, levels: Sequence[Tensor], proposals: list[Tensor]) -> Tensor:
        """Return the first layer's output ``[N, D]``, of each proposal on the level of its size."""
        if len(levels) == 1:
            return self._first_layer(levels[0], proposals, self._scales[0])
        owners = [levels_of(boxes, self._borders) for boxes in proposals]
        rows, places = [], []
        for number, (features, scale) in enumerate(zip(levels, self._scales, strict=True)):
            own = [boxes[level == number] for boxes, level in zip(proposals, owners, strict=True)]
            rows.append(self._first_layer(features, own, scale))
            places.append((torch.cat(owners) == number).nonzero()[:, 0])
        return torch.cat(rows)[torch.cat(places).argsort()]

    def _first_layer(self, features: Tensor, proposals: list[Tensor], scale: float) -> Tensor:
        """Return the first layer's output ``[N, D]``; each film goes the way that its own proposals suggest."""
        if self._is_map_cheaper_to_train(features, proposals):
            return first_layer_with_gradient(
                features, proposals, self.fc6.weight, self.fc6.bias, self._num_bins, scale, self._num_samples
            )
        through_map = [number for number, boxes in enumerate(proposals) if self._is_map_cheaper(features, len(boxes))]
        if not through_map:
            return self._cut_out(features, proposals, scale)
        rows: list[Tensor] = [features.new_zeros(0, self.fc6.out_features)] * len(proposals)
        chosen = [proposals[number] for number in through_map]
        found = self._through_map(features[through_map], chosen, scale)
        for number, hidden in zip(through_map, found.split([len(boxes) for boxes in chosen]), strict=True):
            rows[number] = hidden
        for number in set(range(len(proposals))) - set(through_map):
            rows[number] = self._cut_out(features[number : number + 1], [proposals[number]], scale)
        return torch.cat(rows)

    def _through_map(self, features: Tensor, proposals: list[Tensor], scale: float) -> Tensor:
        weight, bias, num_bins = self.fc6.weight, self.fc6.bias, self._num_bins
        if weight.numel() * weight.element_size() > COPY_BYTES:
            return first_layer_by_output(features, proposals, weight, bias, num_bins, scale, self._num_samples)
        weights = self._bin_weights.get([weight], lambda: bin_weights(weight, num_bins**2))
        return first_layer(features, proposals, weights, bias, scale, self._num_samples)

    def _is_map_cheaper(self, features: Tensor, num_proposals: int) -> bool:
        """Return whether a film's proposals are scored through the map, where cutting out would cost more."""
        if self.training or self.exact_roi or torch.is_grad_enabled() or features.device.type != "cpu":
            return False
        return num_proposals * MAP_ADVANTAGE >= features.shape[2] * features.shape[3]

    def _is_map_cheaper_to_train(self, features: Tensor, proposals: list[Tensor]) -> bool:
        """Return whether all films of a training step go through the map; on a GPU cutting out is cheap."""
        if not torch.is_grad_enabled() or self.exact_roi or features.device.type != "cpu":
            return False
        num_cells, num_proposals = features[0, 0].numel(), sum(map(len, proposals)) // max(len(proposals), 1)
        return is_map_cheaper_to_train(num_cells, num_proposals, features.shape[1])

    def _cut_out(self, features: Tensor, proposals: list[Tensor], scale: float) -> Tensor:
        """Return the first layer's output by cutting out; in use so many at a time that memory is never the limit."""
        num_bytes = sum(map(len, proposals)) * self.fc6.in_features * features.element_size()
        if num_bytes <= CUT_BYTES or torch.is_grad_enabled():
            pooled = cut_out(features, proposals, self._num_bins, scale, self._num_samples)
            return project(self.fc6, pooled.flatten(start_dim=1))
        weight, bias = as_multiplied(self.fc6.weight), as_multiplied(self.fc6.bias)
        num_parts, hidden = -(-num_bytes // _cut_bytes(features.device)), []
        # parts of about one size, as products of few rows are computed another way
        for part in numbered(proposals).tensor_split(num_parts):
            pooled = cut_out(features, part, self._num_bins, scale, self._num_samples)
            hidden.append(affine(pooled.flatten(start_dim=1), weight, bias))
        return torch.cat(hidden)


def _cut_bytes(device: torch.device) -> int:
    """Return the most memory that cut-outs take at one time in use, bytes, a power of two."""
    if device.type != "cuda":
        return CUT_BYTES
    share = max(int(free_memory(device) * CUT_SHARE), CUT_BYTES)
    return min(1 << (share.bit_length() - 1), MOST_CUT_BYTES)


def _geometry(boxes: Tensor, size: int) -> Tensor:
    """Return centre, side lengths and their logarithms ``[N, 6]`` of boxes ``[N, 4]``, about -1..1."""
    low, high = boxes[:, :2] / size, boxes[:, 2:] / size
    sides = (high - low).clamp(min=1e-3)
    return torch.cat([low + high - 1, 2 * sides - 1, sides.log() / 2 + 1], dim=1)
