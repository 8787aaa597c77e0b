"""A real stage with accumulated batches and averaged weights, killed between two states, ends as one undisturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from crrg.storage import Storage
from crrg.training import loop
from crrg.training.checkpoint import StageFolder
from crrg.training.loop import fit
from crrg.training.tracker import NullTracker
from tests.support.random_stages import CASES, LOOP

CPU = torch.device("cpu")
NUM_STEPS, ACCUMULATE, STEPS_PER_STATE = 12, 2, 3
# the end is a window of losses in which the process was killed
CONFIG = LOOP.model_copy(
    update={
        "num_steps": NUM_STEPS, "accumulate": ACCUMULATE, "ema_decay": 0.8, "log_every": NUM_STEPS,
        "checkpoint_every_s": STEPS_PER_STATE - 0.5,
    }
)  # fmt: skip


class LossTracker(NullTracker):
    """Keeps the training loss of the last window."""

    last_loss = float("nan")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.last_loss = metrics.get("train/loss", self.last_loss)


class StepClock:
    """A clock that goes on by a second per step, so that states are written every few steps."""

    def __init__(self) -> None:
        self.num_batches = 0

    def monotonic(self) -> float:
        return self.num_batches / ACCUMULATE


def train(root: str, stage: str, name: str, killed_at: int = -1) -> tuple[int, float, dict[str, Tensor]]:
    """Train a stage; the process kills itself at the given batch, counted from 1.

    Returns:
        The number of batches that were made, the last window's loss and the weights.
    """
    case, clock, tracker = CASES[stage](CPU), StepClock(), LossTracker()

    def parts(batch: Any) -> Any:
        clock.num_batches += 1
        if clock.num_batches == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return case.loss_of.parts(batch)

    folder = StageFolder(Storage(root), stage, name)
    with patch.object(loop, "time", clock):
        fit(
            case.module, case.make_batch, replace(case.loss_of, parts=parts), CONFIG,
            device=CPU, folder=folder, tracker=tracker,
        )  # fmt: skip
    return clock.num_batches, tracker.last_loss, case.module.state_dict()


@pytest.mark.parametrize("stage", ["detector", "generator"])
def test_a_killed_stage_ends_with_the_undisturbed_loss_and_weights(stage: str, tmp_path: Path, checkout: Path) -> None:
    dice = random.Random(stage)
    step = dice.choice([each for each in range(STEPS_PER_STATE, NUM_STEPS) if each % STEPS_PER_STATE])
    batch = step * ACCUMULATE + dice.randint(1, ACCUMULATE)
    command = [
        sys.executable,
        "-m",
        "tests.unit.training.test_stage_killed",
        str(tmp_path),
        stage,
        "killed",
        str(batch),
    ]
    child = subprocess.run(command, cwd=checkout, check=False, timeout=300)
    assert child.returncode == -signal.SIGKILL
    num_batches, loss_resumed, weights = train(str(tmp_path), stage, "killed")
    num_whole, loss_whole, wanted = train(str(tmp_path), stage, "whole")
    resumed_from = NUM_STEPS - num_batches // ACCUMULATE
    assert 0 < resumed_from == step // STEPS_PER_STATE * STEPS_PER_STATE < step
    assert num_whole == NUM_STEPS * ACCUMULATE
    assert loss_resumed == pytest.approx(loss_whole, abs=1e-6), f"killed at batch {batch}"
    for name, value in wanted.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-6, msg=name)


if __name__ == "__main__":
    train(*sys.argv[1:4], int(sys.argv[4]))
