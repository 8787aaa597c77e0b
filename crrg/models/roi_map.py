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

from crrg.models.products import affine, multiply_each

FILMS_AT_ONCE = 4
"""Films whose maps share one pass over the weights; the results of a bin then still fit the cache."""
OUTPUTS_AT_ONCE = 32
"""Outputs that proposals gather from the map together, where the weights are read as they lie."""


def bin_weights(weight: Tensor, num_bins: int) -> Tensor:
    """Return a copy of a first layer's weight ``[D, C * bins]`` bin by bin, ``[bins, D, C]``."""
    # as one matrix, which torch transposes in blocks; with three axes it takes 2.5 times as long
    return weight.detach().reshape(-1, num_bins).t().contiguous().view(num_bins, len(weight), -1)


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
        weights: Those of ``bin_weights``, ``[S * S, D, C]``.
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


def first_layer_by_output(
    features: Tensor,
    proposals: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    num_bins: int,
    scale: float,
    num_samples: int,
) -> Tensor:
    """Return what ``first_layer`` does, reading the weights as they lie: no copy of them.

    For a large layer it takes as long, for a small one up to twice as long.

    Args:
        features: Maps ``[B, C, H, W]``.
        proposals: One ``[N_i, 4]`` per film, input pixels; N = sum of N_i.
        weight: The layer's, ``[D, C * S * S]``.
        bias: ``[D]``.
        num_bins: Bins per side.
        scale: Cells per input pixel.
        num_samples: Points per bin and axis.

    Returns:
        ``[N, D]``.
    """
    height, width = features.shape[-2:]
    by_output = weight.detach().unflatten(1, (-1, num_bins**2))
    hidden = features.new_zeros(sum(map(len, proposals)), len(weight))
    groups = [slice(first, first + FILMS_AT_ONCE) for first in range(0, len(features), FILMS_AT_ONCE)]
    rows_of_groups = hidden.split([sum(map(len, proposals[group])) for group in groups])
    for group, own in zip(groups, rows_of_groups, strict=True):
        if len(own) == 0:
            continue
        places, shares = _places(proposals[group], scale, height, width, num_bins, num_samples)
        table = features[group].permute(0, 2, 3, 1).reshape(-1, features.shape[1]).contiguous()
        for outputs, weights in zip(own.split(OUTPUTS_AT_ONCE, dim=1), by_output.split(OUTPUTS_AT_ONCE), strict=True):
            said = multiply_each(table, weights).flatten(1).T.contiguous()
            outputs.copy_(embedding_bag(places, said, per_sample_weights=shares, mode="sum"))
    return hidden + bias


def _places(
    proposals: Sequence[Tensor], scale: float, height: int, width: int, num_bins: int, num_samples: int
) -> tuple[Tensor, Tensor]:
    """Return the taps of each proposal ``[N, S * S * T * T]``, as rows of films x cells x bins, and their shares."""
    boxes, bins = torch.cat(list(proposals)), torch.arange(num_bins**2).view(num_bins, num_bins, 1, 1)
    film = torch.repeat_interleave(torch.tensor([len(each) for each in proposals]))
    rows, columns = _axis_taps(boxes * scale, height, width, num_bins, num_samples)
    cells = rows[0][:, :, None, :, None] * width + columns[0][:, None, :, None]
    cells += (film * height * width)[:, None, None, None, None]
    shares = rows[1][:, :, None, :, None] * columns[1][:, None, :, None]
    return (cells * num_bins**2 + bins).flatten(1), shares.flatten(1)


def _group(features: Tensor, proposals: Sequence[Tensor], weights: Tensor, scale: float, num_samples: int) -> Tensor:
    height, width = features.shape[-2:]
    num_bins = math.isqrt(len(weights))
    cells = torch.cat(list(proposals)) * scale
    film = torch.repeat_interleave(torch.tensor([len(boxes) for boxes in proposals]))
    (rows, row_shares), (columns, column_shares) = _axis_taps(cells, height, width, num_bins, num_samples)
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


def _axis_taps(
    cells: Tensor, height: int, width: int, num_bins: int, num_samples: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the taps of the rows and of the columns of boxes ``[N, 4]``, in cells."""
    rows = _taps(axis_weights(cells[:, 1], cells[:, 3], height, num_bins, num_samples), num_samples)
    return rows, _taps(axis_weights(cells[:, 0], cells[:, 2], width, num_bins, num_samples), num_samples)


def _taps(shares: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
    """Return the few cells that count in each bin, ``[N, S, T]``, and how much they count."""
    num_bins, num_cells = shares.shape[1:]
    # points lie at most so many cells apart, as no proposal is larger than the map
    num_taps = min(math.ceil((num_samples - 1) * num_cells / (num_bins * num_samples)) + 2, num_cells)
    # the first cell that counts; all zero where a bin lies outside
    first = (shares != 0).to(torch.int8).argmax(dim=2).clamp(max=num_cells - num_taps)
    places = first[..., None] + torch.arange(num_taps)
    return places, shares.gather(2, places)
