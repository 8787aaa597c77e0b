"""What the loop does about NaN and infinite values: nothing of them stays, and no training is lost to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crrg.config.training import LoopConfig
from crrg.errors import NonFiniteLoss
from crrg.storage import Storage
from crrg.training.best_weights import BestWeights
from crrg.training.checkpoint import StageFolder
from crrg.training.loop import FitOutcome, fit
from crrg.training.tracker import NullTracker, Tracker

CPU = torch.device("cpu")
STEADY = LoopConfig(num_steps=6, schedule="constant", warmup_share=0, ema_decay=0.9, learning_rate=0.02)


class Normed(nn.Module):
    """A network that notes statistics of its batches, and may get a number into its weights that is none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))
        self.unused = nn.Parameter(torch.zeros(1))

    def loss(self, batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        return (self.body(batch) - batch.sum(1, keepdim=True)).square().mean(), {}


class Killed(Exception):
    pass


def batch_at(step: int) -> Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(step))


def bad_at(*steps: int, killed_at: int = -1) -> Callable[[int], Tensor]:
    def make(step: int) -> Tensor:
        if step == killed_at:
            raise Killed
        return torch.full((8, 3), math.nan) if step in steps else batch_at(step)

    return make


class LossTracker(NullTracker):
    """Keeps the training loss of the last window."""

    last_loss = math.nan

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.last_loss = metrics.get("train/loss", self.last_loss)


def folder_of(root: Path, name: str) -> StageFolder:
    return StageFolder(Storage(str(root)), "normed", name)


def train(
    root: Path,
    name: str,
    config: LoopConfig,
    make: Callable[[int], Tensor],
    score: Callable[[], float] | None = None,
    tracker: Tracker | None = None,
) -> tuple[Normed, FitOutcome]:
    module = Normed()
    outcome = fit(
        module, make, module.loss, config,
        device=CPU, folder=folder_of(root, name), tracker=tracker or NullTracker(), score=score,
    )  # fmt: skip
    return module, outcome


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_skipped_step_leaves_no_trace_in_statistics_and_average(
    ema_decay: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = STEADY.model_copy(update={"ema_decay": ema_decay})
    tracker = LossTracker()
    skipped, _ = train(tmp_path, "skipped", config, bad_at(5), tracker=tracker)
    whole, _ = train(tmp_path, "whole", config.model_copy(update={"num_steps": 5}), batch_at)
    for name, value in whole.state_dict().items():
        assert torch.equal(skipped.state_dict()[name], value), name
    assert math.isfinite(tracker.last_loss), "one bad step does not blot out the loss of its window"
    caplog.clear()
    later, _ = train(tmp_path, "later", config, bad_at(2))
    assert caplog.text.count("skipped") == 1, "the steps after it are good ones"
    assert all(torch.isfinite(value).all() for value in later.state_dict().values())


def test_statistics_without_end_are_a_bad_step_though_the_loss_is_finite(tmp_path: Path) -> None:
    def huge(step: int) -> Tensor:
        return batch_at(step) * (1e30 if step == 3 else 1)

    module = Normed()

    def loss(batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        return module.body(batch).square().mean(), {}

    fit(module, huge, loss, STEADY, device=CPU, folder=folder_of(tmp_path, "huge"), tracker=NullTracker())
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())


def test_four_bad_steps_before_the_first_state_go_back_to_the_start(tmp_path: Path) -> None:
    module, outcome = train(tmp_path, "start", STEADY.model_copy(update={"num_steps": 8}), bad_at(0, 1, 2, 3))
    assert outcome.num_steps == 8
    assert torch.isfinite(module.body[0].weight).all()
    again, _ = train(tmp_path, "start again", STEADY.model_copy(update={"num_steps": 8}), bad_at(2, 3, 4, 5))
    assert torch.isfinite(again.body[0].weight).all()


def test_a_roll_back_is_stored_with_its_halved_rate_and_ends_as_if_undisturbed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = STEADY.model_copy(update={"num_steps": 20, "checkpoint_every_s": 1e-9})
    whole, _ = train(tmp_path, "whole", config, bad_at(4, 5, 6, 7))
    slow = config.model_copy(update={"checkpoint_every_s": 60.0})
    with pytest.raises(Killed):
        train(tmp_path, "cut", slow, bad_at(4, 5, 6, 7, killed_at=9))
    state = folder_of(tmp_path, "cut").latest_state()
    assert state is not None
    assert state.step == 8, "nothing else was saved since the start"
    assert (state.values["rate_factor"], state.values["num_rollbacks"]) == (0.5, 1)

    with pytest.raises(Killed):
        train(tmp_path, "killed", config, bad_at(4, 5, 6, 7, killed_at=9))
    caplog.clear()
    resumed, _ = train(tmp_path, "killed", config, bad_at(4, 5, 6, 7))
    assert "resumed at step 9" in caplog.text
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_roll_backs_are_counted_over_all_runs_of_a_training(tmp_path: Path) -> None:
    config = STEADY.model_copy(update={"num_steps": 30, "checkpoint_every_s": 1e-9})
    bad = (3, 4, 5, 6, 10, 11, 12, 13)
    with pytest.raises(Killed):
        train(tmp_path, "twice", config, bad_at(*bad, killed_at=15))
    with pytest.raises(NonFiniteLoss, match="after 2 roll-backs"):
        train(tmp_path, "twice", config, bad_at(*bad, 20, 21, 22, 23))


def test_a_roll_back_behind_the_first_score_forgets_it(tmp_path: Path) -> None:
    scores = iter([0.9, 0.1, 0.2, 0.1, 0.1])
    config = STEADY.model_copy(update={"num_steps": 9, "validate_every": 2})
    _, outcome = train(tmp_path, "scored", config, bad_at(2, 3, 4, 5), lambda: next(scores))
    assert outcome.best_step == 6, "0.9 was of weights that are gone; 0.2 is the best of what came after"


def test_what_was_found_since_a_state_is_forgotten_with_it() -> None:
    best, module = BestWeights(3), nn.Linear(1, 1)
    best.offer(module, math.nan, 1)
    tensors, values = best.tensors(), best.values()
    best.offer(module, 0.5, 2)
    best.load(tensors, values)
    assert (best.score, best.step, best.num_worse) == (-math.inf, 0, 0)
    best.offer(module, 0.4, 3)
    best.offer(module, math.nan, 4)
    assert (best.score, best.step, best.num_worse) == (0.4, 3, 1)


def test_a_state_that_is_not_finite_is_not_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = Normed()

    def loss(batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        if torch.equal(batch, batch_at(3)):
            module.unused.data.fill_(math.inf)
        return module.loss(batch)

    config = STEADY.model_copy(update={"ema_decay": 0.0, "checkpoint_every_s": 1e-9})
    folder = folder_of(tmp_path, "infinite")
    fit(module, batch_at, loss, config, device=CPU, folder=folder, tracker=NullTracker())
    state = folder.latest_state()
    assert state is not None
    assert state.step == 3
    assert "no state at step 4, 1 tensors not finite" in caplog.text
    with pytest.raises(NonFiniteLoss, match="not finite, the first is unused"):
        folder.finish(module, {"architecture": {}}, {})
    assert folder.result() is None
