"""Whatever a device says, and wherever in a training: its failure and its short memory have a name and a way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crrg.config.training import LoopConfig
from crrg.errors import DeviceError, DeviceMemoryError
from crrg.storage import Storage
from crrg.training import loop
from crrg.training.checkpoint import StageFolder
from crrg.training.tracker import NullTracker
from tests.support.trained_line import CPU, Line, batch_at, run

CONFIG = LoopConfig(num_steps=6, batch_size=24)
FAILURE = RuntimeError("CUDA error: unknown error")


def folder_of(root: Path) -> StageFolder:
    return StageFolder(Storage(str(root)), "line", "device")


class LostLoss(NullTracker):
    """A loss that is read when it is logged, which is when a failure of the step before is told."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        raise FAILURE


def no_batch(_number: int) -> Tensor:
    raise FAILURE


@pytest.mark.parametrize(("batches", "tracker"), [(no_batch, NullTracker()), (batch_at, LostLoss())])
def test_a_failure_beside_a_step_is_the_devices(
    tmp_path: Path, batches: Callable[[int], Tensor], tracker: NullTracker
) -> None:
    module = Line()
    with pytest.raises(DeviceError, match="the device has failed"):
        loop.fit(module, batches, module.loss, CONFIG, device=CPU, folder=folder_of(tmp_path), tracker=tracker)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), (DeviceMemoryError, r"batch of 24 .*halve loop\.batch_size")),
        (FAILURE, (DeviceError, "the device has failed")),
    ],
)
def test_a_state_that_the_device_does_not_take_is_not_taken_for_another_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Exception, expected: tuple[type[Exception], str]
) -> None:
    run(tmp_path, CONFIG, "device")

    def full(*_: object) -> None:
        raise said

    monkeypatch.setattr(loop, "load_optimizer_tensors", full)
    kind, words = expected
    with pytest.raises(kind, match=words):
        run(tmp_path, CONFIG, "device")
    assert folder_of(tmp_path).latest_state() is not None
