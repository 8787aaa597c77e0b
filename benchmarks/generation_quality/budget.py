"""Trainings that end when their CPU seconds are used up, so that networks of different speed can be compared.

CPU seconds are those of this process, all its threads together: what else runs on the machine costs wall time, not
budget. How many steps the budget allows is estimated from the first few, since the learning rate has to fall to zero
over all of them; the steps of the estimate are undone and count as used.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from crrg.config.training import LoopConfig
from crrg.storage import Storage
from crrg.training.averaging import WeightAverage
from crrg.training.checkpoint import StageFolder
from crrg.training.loop import fit
from crrg.training.tracker import NullTracker

Batch = TypeVar("Batch")
Loss = Callable[[Batch], tuple[Tensor, Mapping[str, Tensor]]]
CPU = torch.device("cpu")
NUM_PROBED = 6
NUM_SLOW = 2
"""The first steps of all are slower than the rest and are not counted."""
MARGIN = 0.98
NO_CHECKPOINTS_S = 1e9


@dataclass(frozen=True)
class Limit:
    """Where a training ends: one of the two is 0.

    Attributes:
        cpu_s: CPU seconds.
        num_steps: Optimiser steps.
    """

    cpu_s: float = 0.0
    num_steps: int = 0


@dataclass(frozen=True)
class Effort:
    """What a training took.

    Attributes:
        cpu_s: CPU seconds, the estimate included.
        num_steps: Steps that count.
        num_planned: Steps that the schedule was made for.
    """

    cpu_s: float
    num_steps: int
    num_planned: int


class CpuClock:
    """Counts this process's CPU seconds from now on."""

    def __init__(self) -> None:
        self._start = time.process_time()

    def used(self) -> float:
        """Return the CPU seconds so far."""
        return time.process_time() - self._start


class _UsedUp(Exception):
    """The budget is used up; the network stays as it is."""


def fit_within(
    module: nn.Module,
    make_batch: Callable[[int], Batch],
    loss: Loss[Batch],
    loop: LoopConfig,
    limit: Limit,
    clock: CpuClock,
) -> Effort:
    """Train a network until the limit is reached; it is left in ``eval`` mode.

    Args:
        module: Network on the CPU, which ``loss`` uses.
        make_batch: Step to batch.
        loss: Batch to loss and its parts.
        loop: Loop; its number of steps is replaced.
        limit: Where to end.
        clock: Started when the training's own work began, what prepared it included.
    """
    loop = loop.model_copy(update={"checkpoint_every_s": NO_CHECKPOINTS_S})
    num_planned = limit.num_steps
    if not num_planned:
        pace = _pace(module, make_batch, loss, loop)
        num_planned = max(1, int((limit.cpu_s - clock.used()) * MARGIN / pace))
    done = 0
    average = WeightAverage(module, loop.ema_decay) if loop.ema_decay else None

    def bounded(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        nonlocal done
        if average is not None and done:
            average.update()
        if limit.cpu_s and done and clock.used() >= limit.cpu_s:
            raise _UsedUp
        done += 1
        return loss(batch)

    # averaged here and not by the loop, which hands over the average only where it comes to its end
    with contextlib.suppress(_UsedUp):
        _fit(module, make_batch, bounded, loop.model_copy(update={"num_steps": num_planned, "ema_decay": 0.0}))
    if average is not None:
        if done == num_planned:
            average.update()
        average.apply()
    module.eval()
    return Effort(clock.used(), done, num_planned)


def _pace(
    module: nn.Module,
    make_batch: Callable[[int], Batch],
    loss: Loss[Batch],
    loop: LoopConfig,
) -> float:
    """Return the CPU seconds of a step; network and random numbers are as before afterwards."""
    state, random_state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    marks: list[float] = []

    def marked(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        marks.append(time.process_time())
        return loss(batch)

    _fit(module, make_batch, marked, loop.model_copy(update={"num_steps": NUM_PROBED}))
    module.load_state_dict(state)
    torch.set_rng_state(random_state)
    return max(1e-4, (marks[-1] - marks[NUM_SLOW - 1]) / (NUM_PROBED - NUM_SLOW))


def _fit(
    module: nn.Module,
    make_batch: Callable[[int], Batch],
    loss: Loss[Batch],
    loop: LoopConfig,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = StageFolder(Storage(folder), "contest", "0")
        fit(module, make_batch, loss, loop, device=CPU, folder=stage, tracker=NullTracker())
