"""Copies of weights for inference are made again when the weights change."""

from __future__ import annotations

import copy

import torch

from crrg.models.prepared import Prepared


def test_made_once_until_the_weights_change() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    prepared: Prepared[torch.Tensor] = Prepared()
    first = prepared.get([weight], lambda: weight.detach() * 2)
    assert prepared.get([weight], lambda: weight.detach() * 3) is first
    with torch.no_grad():
        weight.add_(1)
    assert prepared.get([weight], lambda: weight.detach() * 2).tolist() == [4, 4]


def test_a_copy_starts_without_it() -> None:
    weight = torch.ones(2)
    prepared: Prepared[torch.Tensor] = Prepared()
    prepared.get([weight], lambda: weight * 2)
    assert copy.deepcopy(prepared).get([weight], lambda: weight * 3).tolist() == [3, 3]
