"""A check that the batches of one step train a network as all of them in one batch do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from crrg.training.counted_loss import CountedLoss, losses_of_step

CPU = torch.device("cpu")
Batch = TypeVar("Batch")


def _step_of(module: nn.Module, loss_of: CountedLoss[Batch], batches: Sequence[Batch]) -> tuple[float, list[Tensor]]:
    """Return the loss of a step and its gradients."""
    module.zero_grad()
    total = 0.0
    for loss, _ in losses_of_step(loss_of, batches, CPU):
        loss.backward()
        total += loss.item()
    return total, [each.grad.clone() for each in module.parameters() if each.grad is not None]


def check_equal_steps(module: nn.Module, loss_of: CountedLoss[Batch], parts: Sequence[Batch], whole: Batch) -> None:
    """Check that a step over parts has the loss and the gradients of a step over all of them as one batch."""
    split, joint = _step_of(module, loss_of, parts), _step_of(module, loss_of, [whole])
    assert split[0] == pytest.approx(joint[0], rel=1e-6)
    assert sum(float(gradient.abs().sum()) for gradient in joint[1]) > 0
    for own, wanted in zip(split[1], joint[1], strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-6)
