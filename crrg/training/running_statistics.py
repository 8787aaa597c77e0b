"""What a network notes of its batches while it is trained, such as the means of batch normalisation.

A forward pass in ``train`` mode changes it before anybody knows whether the step is any good, and a number that is none
stays in a running mean for ever. So it is copied before a step, and comes back where the step is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


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


@contextmanager
def statistics_held(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch normalisation alone where a batch is looked at once more than it counts."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
