"""A tracker that keeps the losses of a training."""

from __future__ import annotations

from collections.abc import Mapping

from crrg.training.tracker import NullTracker


class LossRecorder(NullTracker):
    """Keeps what is logged of the losses, their mean since the last time.

    Attributes:
        rows: ``train/loss`` and its parts, by the number of steps that were done.
    """

    def __init__(self) -> None:
        self.rows: dict[int, Mapping[str, float]] = {}

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is not None and "train/loss" in metrics:
            self.rows[step] = metrics

    @property
    def losses(self) -> dict[int, float]:
        """The whole loss."""
        return {step: row["train/loss"] for step, row in self.rows.items()}
