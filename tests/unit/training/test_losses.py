"""Losses of the CLIP stage against explicit loops and hand-made values."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from crrg.training.losses import (
    contrastive_loss,
    cxr_clip_loss,
    label_loss,
    label_weights,
    multi_view_loss,
    place_loss,
    same_text,
)


def unit_rows(seed: int, num: int = 5, size: int = 4) -> torch.Tensor:
    return functional.normalize(torch.randn(num, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def looped_cross_entropy(queries: torch.Tensor, keys: torch.Tensor, scale: float, right: list[list[int]]) -> float:
    """Mean over queries of minus the mean log-chance of the right keys, written out."""
    total = 0.0
    for i, query in enumerate(queries.tolist()):
        scores = [scale * sum(a * b for a, b in zip(query, key, strict=True)) for key in keys.tolist()]
        norm = math.log(sum(math.exp(score) for score in scores))
        total -= sum(scores[j] - norm for j in right[i]) / len(right[i])
    return total / len(queries)


def looped_symmetric(first: torch.Tensor, second: torch.Tensor, scale: float) -> float:
    own = [[i] for i in range(len(first))]
    return (looped_cross_entropy(first, second, scale, own) + looped_cross_entropy(second, first, scale, own)) / 2


def test_contrastive_loss_is_the_mean_of_both_directions() -> None:
    first, second = unit_rows(1), unit_rows(2)
    assert contrastive_loss(first, second, torch.tensor(7.0)).item() == pytest.approx(
        looped_symmetric(first, second, 7.0), rel=1e-5
    )


def test_equal_texts_share_the_target() -> None:
    images, texts = unit_rows(3), unit_rows(4)
    matches = same_text(torch.tensor([8, 5, 8, 6, 8]))
    right = [[0, 2, 4], [1], [0, 2, 4], [3], [0, 2, 4]]
    expected = (looped_cross_entropy(images, texts, 5.0, right) + looped_cross_entropy(texts, images, 5.0, right)) / 2
    assert contrastive_loss(images, texts, torch.tensor(5.0), matches).item() == pytest.approx(expected, rel=1e-5)


def test_one_sided_matches_are_read_by_column_for_texts() -> None:
    images, texts = unit_rows(5, num=3), unit_rows(6, num=3)
    # text 0 is true of films 0 and 2; text 2 is true of film 2 only
    matches = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 1]])
    expected = (
        looped_cross_entropy(images, texts, 2.0, [[0], [1], [0, 2]])
        + looped_cross_entropy(texts, images, 2.0, [[0, 2], [1], [2]])
    ) / 2
    assert contrastive_loss(images, texts, torch.tensor(2.0), matches).item() == pytest.approx(expected, rel=1e-5)


def test_cxr_clip_loss_is_mvs_plus_weighted_icl_and_tcl() -> None:
    i1, i2, t1, t2 = (unit_rows(seed) for seed in (10, 11, 12, 13))
    scale = torch.tensor(3.0)
    mvs = sum(looped_symmetric(image, text, 3.0) for image in (i1, i2) for text in (t1, t2)) / 4
    icl, tcl = looped_symmetric(i1, i2, 3.0), looped_symmetric(t1, t2, 3.0)
    assert multi_view_loss((i1, i2), (t1, t2), scale).item() == pytest.approx(mvs, rel=1e-5)
    assert cxr_clip_loss((i1, i2), (t1, t2), scale).item() == pytest.approx(mvs + icl + 0.5 * tcl, rel=1e-5)
    plain = cxr_clip_loss((i1, i2), (t1, t2), scale, image_weight=0.0, text_weight=0.0)
    assert plain.item() == pytest.approx(mvs, rel=1e-5)


def test_label_loss_masks_unmentioned_and_uncertain() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5, 3.0]])
    labels = torch.tensor([[1, 0, -1, -2]])
    present, absent = math.log1p(math.exp(-2.0)), math.log1p(math.exp(-1.0))
    half = 0.5 * (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(0.5)))
    assert label_loss(logits, labels).item() == pytest.approx((present + absent) / 2, rel=1e-5)
    assert label_loss(logits, labels, uncertain="soft").item() == pytest.approx((present + absent + half) / 3, rel=1e-5)
    weighted = label_loss(logits, labels, torch.tensor([3.0, 3.0, 3.0, 3.0]))
    assert weighted.item() == pytest.approx((3 * present + absent) / 2, rel=1e-5)


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
