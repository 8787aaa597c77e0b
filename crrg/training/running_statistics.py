"""What a network notes of its batches while it is trained, such as the means of batch normalisation.

A forward pass in ``train`` mode changes it before anybody knows whether the step is any good, and a number that is none
stays in a running mean for ever. So it is copied before a step, and comes back where the step is skipped.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningStatistics:
    """The buffers of a network that a forward pass may change: numbers, and counters."""

    def __init__(self, module: nn.Module) -> None:
        """Find them; their tensors must stay the same ones while this is in use."""
        self._buffers = [each for each in module.buffers() if each.is_floating_point() or each.ndim == 0]
        self._kept = [each.clone() for each in self._buffers]

    @torch.no_grad()
    def keep(self) -> None:
        """Copy them as they are now."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            kept.copy_(buffer)

    @torch.no_grad()
    def restore(self) -> None:
        """Make them again what they were when they were kept."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            buffer.copy_(kept)

    def are_finite(self) -> bool:
        """Return whether all are numbers."""
        flags: list[Tensor] = [torch.isfinite(buffer).all() for buffer in self._buffers]
        return not flags or bool(torch.stack(flags).all())
