"""The first layer through the map says what it says of cut-outs, and so do their means."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import roi_align

from crrg.models.roi_map import axis_weights, bin_weights, first_layer, pooled_means


def proposals(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 96
    return torch.cat([low, (low + 0.5 + torch.rand(count, 2, generator=generator) * 90).clamp(max=128)], dim=1)


WHOLE_FILM = torch.tensor([[0.0, 0.0, 128.0, 128.0], [127.0, 127.0, 128.0, 128.0], [0.0, 0.0, 0.1, 0.1]])


@pytest.mark.parametrize(("num_bins", "num_samples"), [(8, 2), (5, 1), (2, 3)])
def test_first_layer_is_that_of_the_cut_outs(num_bins: int, num_samples: int) -> None:
    features = torch.randn(5, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    boxes = [torch.cat([proposals(7 + film, film), WHOLE_FILM]) for film in range(5)]
    boxes[3] = boxes[3][:0]
    layer = torch.nn.Linear(6 * num_bins**2, 9)
    weights = bin_weights(layer.weight, num_bins**2).transpose(1, 2)
    with torch.no_grad():
        wanted = layer(roi_align(features, boxes, num_bins, 1 / 8, num_samples).flatten(1))
        found = first_layer(features, boxes, weights, layer.bias, 1 / 8, num_samples)
    assert found.shape == (sum(len(rows) for rows in boxes), 9)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_means_are_those_of_the_cut_outs() -> None:
    features = torch.randn(2, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    boxes = torch.stack([torch.cat([proposals(4, film), WHOLE_FILM]) for film in range(2)])
    wanted = roi_align(features, list(boxes), 8, 1 / 8, 2).mean(dim=(2, 3)).view(2, 7, 6)
    assert torch.allclose(pooled_means(features, boxes, 1 / 8, 8, 2), wanted, atol=1e-5)


def test_one_bin_of_one_point_reads_between_two_cells() -> None:
    # from 1 to 2.5 cells one bin, its point at 1.75: a quarter of cell 1, three quarters of cell 2
    found = axis_weights(torch.tensor([1.0]), torch.tensor([2.5]), 4, 1, 1)
    assert found[0, 0].tolist() == [0, 0.25, 0.75, 0]
