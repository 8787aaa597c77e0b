"""A training killed at a random step, and taken up again, ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from crrg.config.training import LoopConfig
from crrg.storage import Storage
from crrg.training import state_timer
from crrg.training.checkpoint import StageFolder
from crrg.training.loop import fit
from crrg.training.tracker import NullTracker

NUM_STEPS = 30


class LossTracker(NullTracker):
    """Keeps the training loss of the last window."""

    last_loss = float("nan")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.last_loss = metrics.get("train/loss", self.last_loss)


def train(root: str, name: str, killed_at: int = -1) -> tuple[int, float]:
    """Train a small network with dropout and batch statistics; the process kills itself at the given step.

    Returns:
        The first step that was made, and the last window's loss.
    """
    torch.manual_seed(0)
    steps: list[int] = []
    tracker = LossTracker()
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))

    def batch(step: int) -> tuple[int, Tensor]:
        return step, torch.randn(16, 4, generator=torch.Generator().manual_seed(step))

    def loss(item: tuple[int, Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
        step, inputs = item
        steps.append(step)
        if step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return (module(inputs) - inputs.sum(1, keepdim=True)).square().mean(), {}

    # the end is a window of losses in which the process may have been killed
    config = LoopConfig(num_steps=NUM_STEPS, log_every=20, checkpoint_every_s=1e-9)
    folder = StageFolder(Storage(root), "line", name)
    with patch.object(state_timer, "TIMES_APART", 0):
        fit(module, batch, loss, config, device=torch.device("cpu"), folder=folder, tracker=tracker)
    return steps[0], tracker.last_loss


def test_a_killed_training_ends_with_the_undisturbed_loss(tmp_path: Path) -> None:
    step = random.randrange(2, NUM_STEPS - 1)
    child = subprocess.run([sys.executable, __file__, str(tmp_path), "killed", str(step)], check=False, timeout=120)
    assert child.returncode == -signal.SIGKILL
    resumed = train(str(tmp_path), "killed")
    whole = train(str(tmp_path), "whole")
    assert (resumed[0], whole[0]) == (step, 0)
    assert resumed[1] == pytest.approx(whole[1], abs=1e-6), f"killed at step {step}"


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], int(sys.argv[3]))
