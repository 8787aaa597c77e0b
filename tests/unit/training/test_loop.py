"""The training loop: schedule, resume, guards."""

from __future__ import annotations

import errno
import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crrg.config.training import LoopConfig
from crrg.errors import DeviceMemoryError, ModelError, NonFiniteLoss, StorageError
from crrg.models.weights import load_module
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, module_bytes, read_stage
from crrg.training.loop import FitOutcome, fit
from crrg.training.optim import build_optimizer, learning_rate_at, set_learning_rate
from crrg.training.tracker import NullTracker
from tests.support.trained_line import CPU, Interrupted, Line, batch_at, run


def test_training_learns(tmp_path: Path) -> None:
    module = run(tmp_path, LoopConfig(num_steps=200, learning_rate=0.05, weight_decay=0), "learn")
    module.eval()
    assert float(module.loss(batch_at(999))[0].detach()) < 0.6, "an untrained line is at about 3"


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


def test_memory_that_does_not_suffice_for_a_score_names_what_the_score_takes(tmp_path: Path) -> None:
    module, config = Line(), LoopConfig(num_steps=9, batch_size=24, validate_every=3)

    def full() -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(DeviceMemoryError, match=r"score stage line on validation films; .*decoding\.num_slots"):
        fit(
            module, batch_at, module.loss, config,
            device=CPU, folder=StageFolder(Storage(str(tmp_path)), "line", "scored"), tracker=NullTracker(), score=full,
        )  # fmt: skip


def test_memory_that_does_not_suffice_names_the_batch_and_keeps_what_is_stored(tmp_path: Path) -> None:
    module, config = Line(), LoopConfig(num_steps=9, batch_size=24, checkpoint_every_s=1e-9)
    folder = StageFolder(Storage(str(tmp_path)), "line", "large")

    def full_at_4(batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        if torch.equal(batch, batch_at(4)):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return module.loss(batch)

    with pytest.raises(DeviceMemoryError, match=r"batch of 24 of stage line; halve loop\.batch_size"):
        fit(module, batch_at, full_at_4, config, device=CPU, folder=folder, tracker=NullTracker())
    state = folder.latest_state()
    assert state is not None
    assert state.step == 4


def test_a_disk_that_is_full_keeps_the_states_before_and_training_goes_on_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LoopConfig(num_steps=9, checkpoint_every_s=1e-9)
    whole = run(tmp_path, config, "whole")
    sync, num_synced = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal num_synced
        num_synced += 1
        if num_synced > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"DISK\.FULL") as stopped:
            run(tmp_path, config, "full")
    assert stopped.value.code == "DISK.FULL"
    folder = StageFolder(Storage(str(tmp_path)), "line", "full")
    state = folder.latest_state()
    assert state is not None
    assert state.step == 2
    assert not list(tmp_path.rglob("*.tmp-*"))
    assert torch.equal(run(tmp_path, config, "full").linear.weight, whole.linear.weight)


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


def test_a_part_of_the_network_takes_its_share_of_every_rate() -> None:
    part, rest = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    config = LoopConfig(num_steps=100, learning_rate=1.0, weight_decay=0.5)
    parameters = [*part.parameters(), *rest.parameters()]
    optimizer = build_optimizer(parameters, config, [(part, 0.2)])
    set_learning_rate(optimizer, 0.5)
    found = {
        id(one): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for one in group["params"]
    }
    assert found == {
        id(part.weight): (0.1, 0.5), id(part.bias): (0.1, 0.0), id(rest.weight): (0.5, 0.5), id(rest.bias): (0.5, 0.0),
    }  # fmt: skip
    # nothing is slower: the groups of before, so that a stored state is taken up
    assert [len(group["params"]) for group in build_optimizer(parameters, config).param_groups] == [2, 2]


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


def test_accumulated_batches_give_the_gradient_of_their_mean(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain, split = nn.Linear(3, 1), nn.Linear(3, 1)
    split.load_state_dict(plain.state_dict())

    def train(module: nn.Linear, config: LoopConfig, batches, name: str) -> None:
        def loss(batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
            return (module(batch) - 1).square().mean(), {}

        folder = StageFolder(Storage(str(tmp_path)), "line", name)
        fit(module, batches, loss, config, device=CPU, folder=folder, tracker=NullTracker())

    train(plain, LoopConfig(num_steps=3), lambda step: torch.cat([batch_at(2 * step), batch_at(2 * step + 1)]), "plain")
    train(split, LoopConfig(num_steps=3, accumulate=2), batch_at, "split")
    assert torch.allclose(plain.weight, split.weight, atol=1e-7)


def test_a_resumed_run_with_average_and_scores_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = LoopConfig(
        num_steps=20, checkpoint_every_s=1e-9, ema_decay=0.9, validate_every=4, learning_rate=0.05, accumulate=2
    )

    def train(name: str, dies_at: int = -1) -> tuple[Line, int]:
        torch.manual_seed(0)
        module = Line()

        def score() -> float:
            torch.rand(1)  # a score that draws numbers must not change what follows
            return -float(module.loss(batch_at(999))[0].detach())

        def batches(number: int) -> Tensor:
            if number == dies_at:
                raise Interrupted
            return batch_at(number)

        folder = StageFolder(Storage(str(tmp_path)), "line", name)
        outcome = fit(
            module, batches, module.loss, config, device=CPU, folder=folder, tracker=NullTracker(), score=score
        )
        return module, outcome.best_step

    whole, best = train("whole")
    with pytest.raises(Interrupted):
        train("cut", dies_at=27)
    resumed, resumed_best = train("cut")
    assert resumed_best == best
    assert torch.equal(whole.linear.weight, resumed.linear.weight)


def scored(root: Path, config: LoopConfig, scores: list[float]) -> tuple[Line, int, int, list[Tensor]]:
    torch.manual_seed(0)
    module, seen, left = Line(), [], iter(scores)

    def score() -> float:
        assert not module.training
        seen.append(module.linear.weight.detach().clone())
        return next(left)

    folder = StageFolder(Storage(str(root)), "line", "scored")
    outcome = fit(module, batch_at, module.loss, config, device=CPU, folder=folder, tracker=NullTracker(), score=score)
    assert module.training
    return module, outcome.num_steps, outcome.best_step, seen


def test_the_best_weights_are_kept_and_training_ends_when_patience_does(tmp_path: Path) -> None:
    config = LoopConfig(num_steps=100, validate_every=2, patience=2, learning_rate=0.05)
    module, num_steps, best, seen = scored(tmp_path, config, [0.1, 0.5, math.nan, 0.4])
    assert (num_steps, best) == (8, 4)
    assert torch.equal(module.linear.weight, seen[1])


@pytest.mark.parametrize(("validate_every", "wanted"), [(4, 3), (20, 1)])
def test_the_last_step_is_scored_however_far_the_score_before_lies_back(
    tmp_path: Path, validate_every: int, wanted: int
) -> None:
    config = LoopConfig(num_steps=10, validate_every=validate_every, learning_rate=0.05)
    module, num_steps, best, seen = scored(tmp_path, config, [0.1, 0.2, 0.9][-wanted:])
    assert (num_steps, best, len(seen)) == (10, 10, wanted)
    assert torch.equal(module.linear.weight, seen[-1])


def test_without_any_score_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, folder = Line(), StageFolder(Storage(str(tmp_path)), "line", "unjudged")
    config = LoopConfig(num_steps=12, validate_every=2, patience=2)
    outcome = fit(
        module, batch_at, module.loss, config, device=CPU, folder=folder, tracker=NullTracker(), score=lambda: math.nan
    )
    assert (outcome.num_steps, outcome.best_step) == (12, 12)


def test_a_stop_where_patience_ran_out_is_gone_on_with_without_a_further_step(tmp_path: Path) -> None:
    config = LoopConfig(num_steps=100, validate_every=2, patience=2, learning_rate=0.05)
    whole = scored(tmp_path / "whole", config, [0.5, 0.4, 0.3])[0]
    steps: list[int] = []

    def train(scores: list[float]) -> tuple[Line, FitOutcome]:
        torch.manual_seed(0)
        module, left = Line(), iter(scores)

        def score() -> float:
            value = next(left)
            if value == scores[-1]:
                signal.raise_signal(signal.SIGTERM)
            return value

        def loss(batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
            steps.append(len(steps))
            return module.loss(batch)

        folder = StageFolder(Storage(str(tmp_path)), "line", "stopped")
        return module, fit(
            module, batch_at, loss, config, device=CPU, folder=folder, tracker=NullTracker(), score=score
        )

    with pytest.raises(SystemExit) as stopped:
        train([0.5, 0.4, 0.3])
    assert (stopped.value.code, len(steps)) == (143, 6)
    module, outcome = train([])
    assert len(steps) == 6
    assert (outcome.num_steps, outcome.best_step) == (6, 2)
    assert torch.equal(module.linear.weight, whole.linear.weight)


def test_the_average_is_what_is_scored_and_kept(tmp_path: Path) -> None:
    plain = run(tmp_path, LoopConfig(num_steps=6, learning_rate=0.05), "plain")
    averaged = run(tmp_path, LoopConfig(num_steps=6, learning_rate=0.05, ema_decay=0.99), "averaged")
    assert not torch.equal(plain.linear.weight, averaged.linear.weight)
    torch.manual_seed(0)
    start = Line().linear.weight
    assert (averaged.linear.weight - start).norm() < (plain.linear.weight - start).norm()
    config = LoopConfig(num_steps=6, learning_rate=0.05, ema_decay=0.99, validate_every=6)
    scored_module, _, _, seen = scored(tmp_path, config, [1.0])
    assert torch.equal(seen[0], averaged.linear.weight)
    assert torch.equal(scored_module.linear.weight, averaged.linear.weight)


def test_frozen_normalisation_keeps_statistics_and_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    norm = module[1]
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    first = module[0].weight.detach().clone()

    def loss(batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        return (module(batch) - 1).square().mean(), {}

    config = LoopConfig(num_steps=3, freeze_normalisation=True, validate_every=1)
    folder = StageFolder(Storage(str(tmp_path)), "line", "frozen")
    fit(module, batch_at, loss, config, device=CPU, folder=folder, tracker=NullTracker(), score=lambda: 1.0)
    assert all(torch.equal(before[name], tensor) for name, tensor in norm.state_dict().items())
    assert not torch.equal(first, module[0].weight)
