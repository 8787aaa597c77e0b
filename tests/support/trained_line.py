"""A network of one line and its training, for tests of the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from crrg.config.training import LoopConfig
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder
from crrg.training.loop import fit
from crrg.training.tracker import NullTracker

CPU = torch.device("cpu")


class Line(nn.Module):
    """One line with dropout, so that the random state matters."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.dropout = nn.Dropout(0.3)

    def loss(self, batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss = (self.linear(self.dropout(batch)) - batch.sum(1, keepdim=True)).square().mean()
        return loss, {"part": loss.detach()}


def batch_at(step: int) -> Tensor:
    """Return the batch of a step."""
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(step))


def run(root: Path, config: LoopConfig, name: str, batches: Callable[[int], Tensor] = batch_at) -> Line:
    """Train a line in a folder of a name."""
    torch.manual_seed(0)
    module = Line()
    folder = StageFolder(Storage(str(root)), "line", name)
    fit(module, batches, module.loss, config, device=CPU, folder=folder, tracker=NullTracker())
    return module


class Interrupted(Exception):
    """Stands for a process that ends in the middle."""
