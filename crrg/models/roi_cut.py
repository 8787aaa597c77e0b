"""RoIAlign whose gradient on a CPU is two matrix products.

torchvision spreads the gradient of each cut-out cell by cell, on one core. A cut-out is linear in the map and its two
axes do not depend on each other, so the same gradient is the shares of the rows, times it, times the shares of the
columns. Forward values are torchvision's own; gradients differ from its in the last digits.

Letters: ``B`` films, ``C`` channels, ``H W`` cells, ``S`` bins per side, ``N`` boxes.

Source: RoIAlign as in torchvision (``aligned=False``); He et al., Mask R-CNN, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from crrg.models.roi_map import axis_weights


def cut_out(
    features: Tensor, boxes: Sequence[Tensor] | Tensor, num_bins: int, scale: float, num_samples: int
) -> Tensor:
    """Return the cut-outs ``[N, C, S, S]`` of all boxes, film by film.

    Args:
        features: Maps ``[B, C, H, W]``, float32.
        boxes: One ``[N_i, 4]`` per film, input pixels, without gradient; N = sum of N_i. Or those of all films in one
            ``[N, 5]``, each after its film's number (``numbered``), where no gradient is wanted.
        num_bins: Bins per side.
        scale: Cells per input pixel.
        num_samples: Points per bin and axis.
    """
    if isinstance(boxes, Tensor):
        return roi_align(features, boxes, num_bins, scale, num_samples)
    if features.requires_grad and features.device.type == "cpu":
        cut: Tensor = _CutOut.apply(features, num_bins, scale, num_samples, *boxes)
        return cut
    return roi_align(features, list(boxes), num_bins, scale, num_samples)


def numbered(boxes: Sequence[Tensor]) -> Tensor:
    """Return the boxes ``[N_i, 4]`` of films in one ``[N, 5]``, each after its film's number."""
    return torch.cat([nn.functional.pad(own, (1, 0), value=number) for number, own in enumerate(boxes)])


class _CutOut(torch.autograd.Function):
    """RoIAlign with a gradient for the map alone."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, num_bins: int, scale: float, num_samples: int, *boxes: Tensor) -> Tensor:
        ctx.save_for_backward(*boxes)
        ctx.sizes = (*features.shape[1:], num_bins, scale, num_samples)
        return roi_align(features, list(boxes), num_bins, scale, num_samples)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        boxes: tuple[Tensor, ...] = ctx.saved_tensors
        num_channels, height, width, num_bins, scale, num_samples = ctx.sizes
        spread = gradients[0].new_empty(len(boxes), width, height, num_channels)
        for film, own in enumerate(gradients[0].split([len(each) for each in boxes])):
            cells = boxes[film] * scale
            rows = axis_weights(cells[:, 1], cells[:, 3], height, num_bins, num_samples)
            columns = axis_weights(cells[:, 0], cells[:, 2], width, num_bins, num_samples)
            by_row = rows.transpose(1, 2)[:, None] @ own.permute(0, 3, 2, 1)  # [N, S, H, C], S of the columns
            spread[film] = (columns.flatten(0, 1).T @ by_row.flatten(2).flatten(0, 1)).view(width, height, -1)
        return (spread.permute(0, 3, 2, 1), None, None, None, *(None for _ in boxes))
