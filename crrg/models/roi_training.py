"""The box head's first layer through the map (see ``roi_map``) with its gradient, for training on a CPU.

Films of many proposals on a small map: the layer then has fewer cells to see than proposals, forwards and backwards
alike, and the cut-outs never exist. A bin of a proposal is the shares of its rows times the shares of its columns, so
sums over cells are matrix products, and so are their gradients, all of them by ``products.affine``. Values and
gradients differ from those of cut-outs in the last digits.

Letters: ``B`` films, ``C`` channels, ``H W`` cells, ``S`` bins per side, ``N`` proposals, ``D`` width.

Source: RoIAlign as in torchvision (``aligned=False``); He et al., Mask R-CNN, 2017.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from crrg.models.products import affine
from crrg.models.roi_map import axis_weights, bin_weights


def is_map_cheaper_to_train(num_cells: int, num_proposals: int, num_channels: int) -> bool:
    """Return whether a step costs less through the map, by its products.

    Args:
        num_cells: Cells of a film's map.
        num_proposals: Mean number of proposals per film.
        num_channels: Channels of the map.
    """
    # three products of the layer, forwards and twice backwards, over cells instead of proposals, and two over cells
    # for the bins of each proposal
    return num_cells * (1 / max(num_proposals, 1) + 2 / (3 * num_channels)) < 1


def first_layer_with_gradient(
    features: Tensor,
    proposals: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    num_bins: int,
    scale: float,
    num_samples: int,
) -> Tensor:
    """Return what the first linear layer says of the cut-outs of all proposals, ``[N, D]``.

    Args:
        features: Maps ``[B, C, H, W]``.
        proposals: One ``[N_i, 4]`` per film, input pixels, without gradient; N = sum of N_i.
        weight: The layer's, ``[D, C * S * S]``.
        bias: ``[D]``.
        num_bins: Bins per side.
        scale: Cells per input pixel.
        num_samples: Points per bin and axis.
    """
    hidden: Tensor = _FirstLayer.apply(features, weight, num_bins, scale, num_samples, *proposals)
    return hidden + bias


class _FirstLayer(torch.autograd.Function):
    """The layer without its bias, with gradients for map and weight."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, num_bins: int, scale: float, num_samples: int, *proposals: Tensor
    ) -> Tensor:
        table, by_bin = _table(features), bin_weights(weight, num_bins**2)
        ctx.save_for_backward(table, by_bin, *proposals)
        ctx.sizes = (features.shape, num_bins, scale, num_samples)
        hidden = features.new_zeros(sum(map(len, proposals)), len(weight))
        rows = _film_rows(proposals)
        for number, shares in _shares_by_bin(proposals, features.shape, num_bins, scale, num_samples):
            said = affine(table, by_bin[number]).view(len(features), -1, len(weight))
            for film, own in enumerate(rows):
                hidden[own] += affine(shares[own], said[film].T)
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        table, by_bin, *proposals = ctx.saved_tensors
        shape, num_bins, scale, num_samples = ctx.sizes
        num_films, num_channels, height, width = shape
        rows = _film_rows(proposals)
        for_table, for_bins = torch.zeros_like(table), torch.empty_like(by_bin)
        said = table.new_empty(num_films, height * width, by_bin.shape[1])
        for number, shares in _shares_by_bin(proposals, shape, num_bins, scale, num_samples):
            for film, own in enumerate(rows):
                said[film] = affine(shares[own].T, gradients[0][own].T)
            flat = said.flatten(0, 1)
            for_bins[number] = affine(flat.T, table.T)
            for_table += affine(flat, by_bin[number].T)
        for_features = for_table.view(num_films, height, width, num_channels).permute(0, 3, 1, 2)
        for_weight = for_bins.view(num_bins**2, -1).t().contiguous().view(by_bin.shape[1], -1)
        return (for_features, for_weight, None, None, None, *(None for _ in proposals))


def _table(features: Tensor) -> Tensor:
    """Return the cells of maps ``[B, C, H, W]`` as rows, ``[B * H * W, C]``."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def _film_rows(proposals: Sequence[Tensor]) -> list[slice]:
    """Return which of all proposals are each film's."""
    ends = torch.tensor([len(boxes) for boxes in proposals]).cumsum(0).tolist()
    return [slice(end - len(boxes), end) for end, boxes in zip(ends, proposals, strict=True)]


def _shares_by_bin(
    proposals: Sequence[Tensor], shape: Sequence[int], num_bins: int, scale: float, num_samples: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield each bin's number, and how much every cell of a film counts in it for every proposal, ``[N, H * W]``."""
    height, width = shape[2:]
    cells = torch.cat(list(proposals)) * scale
    rows = axis_weights(cells[:, 1], cells[:, 3], height, num_bins, num_samples)
    columns = axis_weights(cells[:, 0], cells[:, 2], width, num_bins, num_samples)
    for number in range(num_bins**2):
        row, column = divmod(number, num_bins)
        yield number, (rows[:, row, :, None] * columns[:, column, None]).flatten(1)
