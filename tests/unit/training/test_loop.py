"""The training loop: schedule, resume, guards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crrg.config.training import LoopConfig
from crrg.errors import ModelError, NonFiniteLoss
from crrg.models.weights import load_module
from crrg.storage import Storage
from crrg.tracking import NullTracker
from crrg.training.checkpoint import StageFolder, module_bytes, read_stage
from crrg.training.loop import fit
from crrg.training.optim import learning_rate_at

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
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(step))


def run(root: Path, config: LoopConfig, name: str, batches=batch_at) -> Line:
    torch.manual_seed(0)
    module = Line()
    folder = StageFolder(Storage(str(root)), "line", name)
    fit(module, batches, module.loss, config, device=CPU, folder=folder, tracker=NullTracker())
    return module


def test_training_learns(tmp_path: Path) -> None:
    module = run(tmp_path, LoopConfig(num_steps=200, learning_rate=0.05, weight_decay=0), "learn")
    module.eval()
    assert float(module.loss(batch_at(999))[0].detach()) < 0.6, "an untrained line is at about 3"


class Interrupted(Exception):
    pass


def test_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = LoopConfig(num_steps=20, checkpoint_every_s=1e-9)
    whole = run(tmp_path, config, "whole")

    def dies_at_12(step: int) -> Tensor:
        if step == 12:
            raise Interrupted
        return batch_at(step)

    with pytest.raises(Interrupted):
        run(tmp_path, config, "cut", dies_at_12)
    assert StageFolder(Storage(str(tmp_path)), "line", "cut").latest_state() is not None
    resumed = run(tmp_path, config, "cut")
    assert torch.equal(whole.linear.weight, resumed.linear.weight)


def test_a_damaged_state_falls_back_to_the_one_before(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    run(tmp_path, LoopConfig(num_steps=5, checkpoint_every_s=1e-9), "damaged")
    folder = StageFolder(storage, "line", "damaged")
    newest = folder.latest_state()
    assert newest is not None
    assert newest.step == 5
    storage.put(f"{folder.prefix}/state-00000005.safetensors", b"cut")
    older = folder.latest_state()
    assert older is not None
    assert older.step == 4


def test_non_finite_steps_are_skipped_then_fail(tmp_path: Path) -> None:
    def one_bad(step: int) -> Tensor:
        return torch.full((8, 3), math.nan) if step == 3 else batch_at(step)

    module = run(tmp_path, LoopConfig(num_steps=8), "one-bad", one_bad)
    assert torch.isfinite(module.linear.weight).all()
    with pytest.raises(NonFiniteLoss):
        run(
            tmp_path,
            LoopConfig(num_steps=30, checkpoint_every_s=1e-9),
            "bad",
            lambda step: torch.full((8, 3), math.nan),
        )


def test_schedule_rises_then_falls_to_zero() -> None:
    config = LoopConfig(num_steps=100, learning_rate=1.0, warmup_share=0.1)
    rates = [learning_rate_at(step, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert rates[55] == pytest.approx(0.5)


def test_finished_stage_is_read_back_and_reused(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    module = Line()
    folder = StageFolder(storage, "line", "hash")
    assert folder.result() is None
    result = folder.finish(module, {"architecture": {}}, {"a": 1.0}, files={"tokenizer.json": b"{}"})
    reused = folder.result()
    assert reused is not None
    assert reused.reused
    assert reused.sha256 == result.sha256
    config, weights = read_stage(storage, result)
    assert config == {"architecture": {}}
    other = Line()
    load_module(other, weights, "line")
    assert torch.equal(other.linear.weight, module.linear.weight)


def test_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(ModelError, match="do not fit"):
        load_module(nn.Linear(2, 2), module_bytes(Line()), "line")


def test_damaged_weights_are_refused() -> None:
    with pytest.raises(ModelError, match="do not fit"):
        load_module(Line(), module_bytes(Line())[:-4], "line")
