"""Losses over labels and places against hand-made values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crrg.evaluation.classification import known_values
from crrg.training.losses import label_loss, label_weights, masked_bce, place_loss, prompt_loss


def test_label_loss_masks_unmentioned_and_uncertain() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, 3.0]])
    labels = torch.tensor([[1, 0, -1, -2]])
    present, absent = math.log1p(math.exp(-2.0)), math.log1p(math.exp(-1.0))
    half = 0.5 * (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(0.5)))
    assert label_loss(logits, labels).item() == pytest.approx((present + absent) / 2, rel=1e-5)
    assert label_loss(logits, labels, uncertain="soft").item() == pytest.approx((present + absent + half) / 3, rel=1e-5)
    weighted = label_loss(logits, labels, torch.tensor([3.0, 3.0, 3.0, 3.0]))
    assert weighted.item() == pytest.approx((3 * present + absent) / 2, rel=1e-5)


def test_masked_loss_by_hand() -> None:
    logits = torch.tensor([0.0, 2.0, -1.0], requires_grad=True)
    targets = torch.tensor([1.0, float("nan"), 0.0])
    # known: 3 ln 2 (positive weighted by 3) and ln(1 + 1/e)
    expected = (3 * np.log(2) + np.log1p(np.exp(-1))) / 2
    assert masked_bce(logits, targets, 3.0).item() == pytest.approx(expected, rel=1e-6)
    empty = masked_bce(logits, torch.full((3,), float("nan")), 3.0)
    empty.backward()
    assert empty.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(3))


def test_fits_and_scores_know_the_labels_that_the_loss_counts() -> None:
    labels = torch.tensor([[1, 0, -1, -2]])
    logits = torch.zeros(1, 4, requires_grad=True)
    label_loss(logits, labels).backward()
    assert (logits.grad != 0).tolist() == np.isfinite(known_values(labels.numpy())).tolist()


def test_soft_uncertain_labels_reach_the_prompts() -> None:
    films = torch.nn.functional.normalize(torch.ones(1, 4), dim=1).requires_grad_()
    prompts = torch.randn(26, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.full((1, 14), -1)
    asked = (films, prompts, torch.tensor(2.0), labels, torch.ones(14))
    assert prompt_loss(*asked).item() == 0.0
    denying, affirming = prompts.chunk(2)
    answers = 2 * films @ (affirming - denying).T
    expected = label_loss(answers, labels[:, :13], uncertain="soft")
    assert prompt_loss(*asked, uncertain="soft").item() == pytest.approx(expected.item(), rel=1e-6)


def test_label_loss_of_nothing_known_is_zero_with_zero_gradient() -> None:
    logits = torch.ones(2, 3, requires_grad=True)
    loss = label_loss(logits, torch.full((2, 3), -2))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.abs().sum().item() == 0.0


def test_label_weights_are_roots_within_bounds() -> None:
    labels = torch.tensor([[1, 0, 1, -2], [0, 0, 1, -1], [0, 0, 1, -2], [0, 0, 0, -2], [0, 0, 1, -2]])
    # 4 absent to 1 present -> 2; never present -> strongest would be sqrt(5); commoner than not -> 1; unknown -> 1
    assert label_weights(labels).tolist() == pytest.approx([2.0, math.sqrt(5), 1.0, 1.0])
    assert label_weights(labels, strongest=1.5).tolist() == pytest.approx([1.5, 1.5, 1.0, 1.0])


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def test_place_loss_wants_a_finding_inside_its_regions_only() -> None:
    cells = torch.tensor([[[[2.0, -3.0]], [[-1.0, -4.0]], [[5.0, 5.0]]]])
    places = torch.tensor([[[[True, False]], [[False, False]], [[False, False]]]])
    labels = torch.tensor([[1, 0, 1]])
    # label 0 is present at the left: left cell up, right cell down; label 1 is absent everywhere; label 2 is present
    # at an unknown place and left out
    everywhere = math.log(math.exp(-1.0) + math.exp(-4.0))
    expected = (softplus(-2.0) + softplus(-3.0) + softplus(everywhere)) / 3
    assert place_loss(cells, places, labels).item() == pytest.approx(expected, rel=1e-4)


def test_place_loss_ignores_unknown_labels() -> None:
    cells = torch.randn(1, 2, 3, 3, requires_grad=True)
    loss = place_loss(cells, torch.ones(1, 2, 3, 3, dtype=torch.bool), torch.tensor([[-1, -2]]))
    assert loss.item() == 0.0
