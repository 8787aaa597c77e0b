"""The first layer through the map has the values and the gradients of cut-outs, and is taken where it costs less."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from crrg.config.paper import narrow_detector
from crrg.models import box_head
from crrg.models.box_head import BoxHead
from crrg.models.roi_training import first_layer_with_gradient, is_map_cheaper_to_train

WHOLE_FILM = torch.tensor([[0.0, 0.0, 128.0, 128.0], [127.0, 127.0, 128.0, 128.0], [0.0, 0.0, 0.1, 0.1]])


def proposals(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 96
    return torch.cat([low, (low + 0.5 + torch.rand(count, 2, generator=generator) * 90).clamp(max=128)], dim=1)


@pytest.mark.parametrize(("num_bins", "num_samples"), [(8, 2), (5, 1), (2, 3)])
def test_values_and_gradients_are_those_of_the_cut_outs(num_bins: int, num_samples: int) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = [torch.cat([proposals(7 + film, film), WHOLE_FILM]) for film in range(3)]
    boxes[1] = boxes[1][:0]
    wanted_of = torch.randn(sum(map(len, boxes)), 9, generator=generator)
    layer = torch.nn.Linear(6 * num_bins**2, 9)
    start = torch.randn(3, 6, 16, 16, generator=generator)
    found: list[list[Tensor]] = []
    for through_map in (True, False):
        layer.zero_grad()
        features = start.clone().requires_grad_()
        if through_map:
            hidden = first_layer_with_gradient(features, boxes, layer.weight, layer.bias, num_bins, 1 / 8, num_samples)
        else:
            hidden = layer(roi_align(features, boxes, num_bins, 1 / 8, num_samples).flatten(1))
        (hidden * wanted_of).sum().backward()
        assert features.grad is not None
        assert layer.weight.grad is not None
        assert layer.bias.grad is not None
        found.append([hidden.detach(), features.grad, layer.weight.grad.clone(), layer.bias.grad.clone()])
    for own, cut in zip(*found, strict=True):
        assert own.shape == cut.shape
        torch.testing.assert_close(own, cut, rtol=1e-5, atol=2e-5)


def test_the_gradient_is_that_of_small_changes() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 2, 3, 4, dtype=torch.double, generator=generator, requires_grad=True)
    weight = torch.randn(3, 8, dtype=torch.double, generator=generator, requires_grad=True)
    bias = torch.randn(3, dtype=torch.double, requires_grad=True)
    boxes = [proposals(2, 1).double() / 8, proposals(1, 2).double() / 8]

    def layer(*tensors: Tensor) -> Tensor:
        return first_layer_with_gradient(tensors[0], boxes, tensors[1], tensors[2], 2, 0.25, 2)

    assert torch.autograd.gradcheck(layer, (features, weight, bias))


def test_it_is_taken_where_it_costs_less(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_map_cheaper_to_train(16 * 16, 512, 2048), "the paper's sizes"
    assert is_map_cheaper_to_train(8 * 8, 512, 192), "its narrowed ones"
    assert not is_map_cheaper_to_train(32 * 32, 96, 48), "ours"
    taken: list[int] = []

    def recorded(features: Tensor, own: list[Tensor], *rest: object) -> Tensor:
        taken.append(sum(map(len, own)))
        return first_layer_with_gradient(features, own, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(box_head, "first_layer_with_gradient", recorded)
    head = BoxHead(narrow_detector(1, 64, 16), 32, (32,)).train()
    features = torch.randn(2, 32, 2, 2, requires_grad=True)
    head([features], [proposals(6, 1) / 2, proposals(9, 2) / 2])[0].sum().backward()
    assert taken == [15]
    head([features], [proposals(2, 1) / 2] * 2)
    with torch.no_grad():
        head([features], [proposals(6, 1) / 2] * 2)
    assert taken == [15], "few proposals are cut out, and nothing else changes without a gradient"
