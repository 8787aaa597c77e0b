"""The box head's first layer, applied to the feature map instead of to cut-outs of it.

Cutting out (RoIAlign) and the first linear layer are both linear, so their order does not matter: the layer is applied
once to every cell of the map, bin by bin, and a proposal sums the results at the few cells under each of its bins. The
cut-outs, half a gigabyte per film at the paper's size, never exist, and the work hardly depends on how many proposals
there are. Sums are taken in another order than through RoIAlign, so the last digits differ.

Letters: ``B`` films, ``C`` channels, ``H W`` cells, ``S`` bins per side, ``N`` proposals, ``D`` width, ``T`` taps.

Source: RoIAlign as in torchvision (``aligned=False``); He et al., Mask R-CNN, 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from crrg.models.products import affine

FILMS_AT_ONCE = 4
"""Films whose maps share one pass over the weights; the results of a bin then still fit the cache."""


def bin_weights(weight: Tensor, num_bins: int) -> Tensor:
    """Return a first layer's weight ``[D, C * bins]`` bin by bin, ``[bins, C, D]``."""
    return weight.detach().view(len(weight), -1, num_bins).permute(2, 1, 0).contiguous()


def axis_weights(starts: Tensor, ends: Tensor, num_cells: int, num_bins: int, num_samples: int) -> Tensor:
    """Return how much each cell of one axis counts in each bin, ``[N, S, cells]``.

    Args:
        starts: Lower edges of the proposals ``[N]``, in cells.
        ends: Upper edges ``[N]``.
        num_cells: Cells along the axis.
        num_bins: Bins along the axis.
        num_samples: Points per bin along the axis.
    """
    step = (ends - starts).clamp(min=1.0) / (num_bins * num_samples)
    points = starts[:, None] + (torch.arange(num_bins * num_samples, device=starts.device) + 0.5) * step[:, None]
    is_inside = (points >= -1) & (points <= num_cells)
    points = points.clamp(0, num_cells - 1)
    low = points.floor().clamp(max=max(num_cells - 2, 0))
    share = points - low
    table = points.new_zeros(*points.shape, num_cells)
    table.scatter_(2, low.long()[..., None], (1 - share)[..., None])
    high = (low.long() + 1).clamp(max=num_cells - 1)
    table.scatter_add_(2, high[..., None], share[..., None])
    table = table * is_inside[..., None]
    return table.view(len(starts), num_bins, num_samples, num_cells).mean(dim=2)


def pooled_means(features: Tensor, boxes: Tensor, scale: float, num_bins: int, num_samples: int) -> Tensor:
    """Return the mean over all bins of each box's cut-out, without cutting out.

    Args:
        features: Maps ``[B, C, H, W]``.
        boxes: ``[B, R, 4]`` input pixels.
        scale: Cells per input pixel.
        num_bins: Bins per side.
        num_samples: Points per bin and axis.

    Returns:
        ``[B, R, C]``.
    """
    num_films, _, height, width = features.shape
    cells = boxes.reshape(-1, 4) * scale
    rows = axis_weights(cells[:, 1], cells[:, 3], height, num_bins, num_samples).mean(dim=1)
    columns = axis_weights(cells[:, 0], cells[:, 2], width, num_bins, num_samples).mean(dim=1)
    shares = (rows[:, :, None] * columns[:, None]).view(num_films, -1, height * width)
    return shares @ features.flatten(2).transpose(1, 2)


def first_layer(
    features: Tensor, proposals: Sequence[Tensor], weights: Tensor, bias: Tensor, scale: float, num_samples: int
) -> Tensor:
    """Return what the first linear layer says of the cut-outs of all proposals.

    Args:
        features: Maps ``[B, C, H, W]``.
        proposals: One ``[N_i, 4]`` per film, input pixels; N = sum of N_i.
        weights: Those of ``bin_weights``, each transposed, ``[S * S, D, C]``.
        bias: ``[D]``.
        scale: Cells per input pixel.
        num_samples: Points per bin and axis.

    Returns:
        ``[N, D]``.
    """
    groups = range(0, len(features), FILMS_AT_ONCE)
    hidden = [
        _group(features[i : i + FILMS_AT_ONCE], proposals[i : i + FILMS_AT_ONCE], weights, scale, num_samples)
        for i in groups
    ]
    return torch.cat(hidden) + bias


def _group(features: Tensor, proposals: Sequence[Tensor], weights: Tensor, scale: float, num_samples: int) -> Tensor:
    height, width = features.shape[-2:]
    num_bins = math.isqrt(len(weights))
    cells = torch.cat(list(proposals)) * scale
    film = torch.repeat_interleave(torch.tensor([len(boxes) for boxes in proposals]))
    rows, row_shares = _taps(axis_weights(cells[:, 1], cells[:, 3], height, num_bins, num_samples), num_samples)
    columns, column_shares = _taps(axis_weights(cells[:, 0], cells[:, 2], width, num_bins, num_samples), num_samples)
    table = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    hidden = features.new_zeros(len(cells), weights.shape[1])
    if len(cells) == 0:
        return hidden
    first_cell = (film * height * width)[:, None, None]
    for index, weight in enumerate(weights):
        row, column = divmod(index, num_bins)
        places = (first_cell + rows[:, row, :, None] * width + columns[:, column, None]).flatten(1)
        shares = (row_shares[:, row, :, None] * column_shares[:, column, None]).flatten(1)
        is_used = torch.zeros(len(table), dtype=torch.bool)
        is_used[places.flatten()] = True
        numbers = is_used.cumsum(0) - 1
        said = affine(table[is_used], weight)
        hidden += embedding_bag(numbers[places], said, per_sample_weights=shares, mode="sum")
    return hidden


def _taps(shares: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """Return the few cells that count in each bin, ``[N, S, T]``, and how much they count."""
    num_bins, num_cells = shares.shape[1:]
    # points lie at most so many cells apart, as no proposal is larger than the map
    num_taps = min(math.ceil((num_samples - 1) * num_cells / (num_bins * num_samples)) + 2, num_cells)
    # the first cell that counts; all zero where a bin lies outside
    first = (shares != 0).to(torch.int8).argmax(dim=2).clamp(max=num_cells - num_taps)
    places = first[..., None] + torch.arange(num_taps)
    return places, shares.gather(2, places)
