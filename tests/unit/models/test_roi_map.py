"""The first layer through the map says what it says of cut-outs, and so do their means."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import roi_align

from crrg.config.paper import PAPER_DETECTOR
from crrg.models import box_head
from crrg.models.box_head import BoxHead
from crrg.models.roi_map import axis_weights, bin_weights, first_layer, first_layer_by_output, pooled_means


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
    weights = bin_weights(layer.weight, num_bins**2)
    with torch.no_grad():
        wanted = layer(roi_align(features, boxes, num_bins, 1 / 8, num_samples).flatten(1))
        found = first_layer(features, boxes, weights, layer.bias, 1 / 8, num_samples)
        as_they_lie = first_layer_by_output(features, boxes, layer.weight, layer.bias, num_bins, 1 / 8, num_samples)
    for each in (found, as_they_lie):
        assert each.shape == (sum(len(rows) for rows in boxes), 9)
        assert torch.allclose(each, wanted, atol=1e-5)


def test_a_film_says_the_same_alone_and_among_others() -> None:
    features = torch.randn(3, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    boxes = [proposals(5 + film, film) for film in range(3)]
    layer = torch.nn.Linear(6 * 4, 40)
    with torch.no_grad():
        settings = (layer.weight, layer.bias, 2, 1 / 8, 2)
        together = first_layer_by_output(features, boxes, *settings)
        alone = [first_layer_by_output(features[film : film + 1], [boxes[film]], *settings) for film in range(3)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("is_large", [True, False])
def test_of_a_large_layer_no_copy_is_kept(monkeypatch: pytest.MonkeyPatch, is_large: bool) -> None:
    head = BoxHead(PAPER_DETECTOR.model_copy(update={"representation_size": 24}), 8, [32]).eval()
    monkeypatch.setattr(box_head, "COPY_BYTES", head.fc6.weight.numel() * 4 - is_large)
    features, boxes = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0)), 4 * proposals(200, 0)
    with torch.no_grad():
        found, _ = head([features], [boxes])
        head.exact_roi = True
        wanted, _ = head([features], [boxes])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert (head._bin_weights._made is None) == is_large


def test_means_are_those_of_the_cut_outs() -> None:
    features = torch.randn(2, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    boxes = torch.stack([torch.cat([proposals(4, film), WHOLE_FILM]) for film in range(2)])
    wanted = roi_align(features, list(boxes), 8, 1 / 8, 2).mean(dim=(2, 3)).view(2, 7, 6)
    assert torch.allclose(pooled_means(features, boxes, 1 / 8, 8, 2), wanted, atol=1e-5)


def test_one_bin_of_one_point_reads_between_two_cells() -> None:
    # from 1 to 2.5 cells one bin, its point at 1.75: a quarter of cell 1, three quarters of cell 2
    found = axis_weights(torch.tensor([1.0]), torch.tensor([2.5]), 4, 1, 1)
    assert found[0, 0].tolist() == [0, 0.25, 0.75, 0]
