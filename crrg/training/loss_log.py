"""What a training says of its losses: their means over a window of steps, and how far the stage is.

The window goes with the training state, so that a training that was taken up in the middle of one reports what an
undisturbed one does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from crrg.config.training import LoopConfig
from crrg.progress import count_progress
from crrg.training.tracker import Tracker

SUM, COUNT, LAST = "log_sum.", "log_count", "log_last"
"""Names of its values in a training state."""


class LossLog:
    """Averages losses over a window and reports them.

    Attributes:
        last: Mean loss over the last window; NaN before the first.
    """

    def __init__(self, tracker: Tracker, stage: str, config: LoopConfig) -> None:
        """Start with an empty window.

        Args:
            tracker: Receives ``train/loss``, its parts and the learning rate.
            stage: Named beside how far it is.
            config: Length of the training and of the window.
        """
        self._tracker = tracker
        self._stage = stage
        self._config = config
        self._sums: dict[str, float] = {}
        self._count = 0
        self._say = count_progress(stage, "steps")
        self.last = math.nan

    @property
    def run_id(self) -> str:
        """Id of the tracked run; empty where nothing is tracked."""
        return self._tracker.run_id

    def add(self, step: int, loss: Tensor, parts: Mapping[str, Tensor], rate: float) -> None:
        """Take in a step's loss and its parts, and report where the window ends with it."""
        if bool(torch.isfinite(loss)):  # what a skipped step says would blot out the others of its window
            for name, value in {"loss": loss, **parts}.items():
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
            self._count += 1
        if (step + 1) % self._config.log_every == 0 or step + 1 == self._config.num_steps:
            self._report(step, rate)
        self._say(step + 1, self._config.num_steps, "" if math.isnan(self.last) else f"loss {self.last:.3f}")

    def values(self) -> dict[str, float]:
        """Return the window as numbers."""
        last = {} if math.isnan(self.last) else {LAST: self.last}
        return {COUNT: float(self._count), **last, **{SUM + name: total for name, total in self._sums.items()}}

    def load(self, step: int, values: Mapping[str, float]) -> None:
        """Take up what ``values`` returned after ``step`` steps; a state without it has an empty window."""
        self._say = count_progress(self._stage, "steps", start=step)
        self._count, self.last = int(values.get(COUNT, 0)), values.get(LAST, math.nan)
        self._sums = {name.removeprefix(SUM): total for name, total in values.items() if name.startswith(SUM)}

    def _report(self, step: int, rate: float) -> None:
        if not self._count:
            return
        means = {f"train/{name}": total / self._count for name, total in self._sums.items()}
        self.last = means["train/loss"]
        self._tracker.log_metrics({**means, "train/learning_rate": rate}, step=step + 1)
        self._sums, self._count = {}, 0
