"""Cutting regions out of a map, in training: torchvision's values, and its gradient by another way."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import roi_align

from crrg.models.roi_cut import cut_out

SCALE = 1 / 8


def boxes(number: int, seed: int) -> torch.Tensor:
    """Boxes on a film of 128 pixels; some are less than a cell wide, some reach over the edge."""
    generator = torch.Generator().manual_seed(seed)
    corners = 140 * torch.rand(number, 2, generator=generator) - 10
    return torch.cat([corners, corners + 90 * torch.rand(number, 2, generator=generator)], dim=1)


@pytest.mark.parametrize(("num_bins", "num_samples"), [(5, 1), (7, 2)])
def test_values_and_gradient_are_those_of_torchvision(num_bins: int, num_samples: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 6, 16, 12, generator=generator)
    rows = [boxes(9, 1), boxes(0, 2), boxes(4, 3)]
    own, other = features.clone().requires_grad_(), features.clone().requires_grad_()
    cut = cut_out(own, rows, num_bins, SCALE, num_samples)
    wanted = roi_align(other, rows, num_bins, SCALE, num_samples)
    assert torch.equal(cut, wanted)
    assert torch.equal(cut_out(features, rows, num_bins, SCALE, num_samples), wanted)
    weights = torch.randn(wanted.shape, generator=generator)
    (cut * weights).sum().backward()
    (wanted * weights).sum().backward()
    assert own.grad is not None
    assert other.grad is not None
    assert float(other.grad.abs().max()) > 0.1
    torch.testing.assert_close(own.grad, other.grad, rtol=1e-5, atol=1e-5)


def test_a_film_without_boxes_and_no_box_at_all_are_fine() -> None:
    features = torch.ones(2, 3, 8, 8, requires_grad=True)
    cut = cut_out(features, [boxes(0, 1), boxes(0, 1)], 5, SCALE, 1)
    assert cut.shape == (0, 3, 5, 5)
    cut.sum().backward()
    assert features.grad is not None
    assert features.grad.tolist() == torch.zeros(2, 3, 8, 8).tolist()
