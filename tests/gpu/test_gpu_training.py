"""Training on a GPU: mixed precision, accumulation, states that are taken up again, the guard against no numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crrg.device import seed_everything
from crrg.errors import DeviceMemoryError, NonFiniteLoss
from crrg.storage import Storage
from crrg.training import counted_loss, loop, state_timer
from crrg.training.checkpoint import StageFolder
from crrg.training.counted_loss import CountedLoss
from crrg.training.loop import fit
from crrg.training.tracker import NullTracker
from tests.support.random_stages import CASES, LOOP, TrainingCase, without_drop

pytestmark = pytest.mark.gpu
LONG = LOOP.model_copy(update={"num_steps": 12, "checkpoint_every_s": 1e-9, "ema_decay": 0.9, "validate_every": 4})


class Interrupted(Exception):
    pass


class Losses(NullTracker):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if "train/loss" in metrics:
            self.losses.append(metrics["train/loss"])


def train(
    case: TrainingCase, device: torch.device, folder: StageFolder, config: Any = LOOP, *, dies_at: int = -1
) -> list[float]:
    def make(number: int) -> Any:
        if number == dies_at:
            raise Interrupted
        return case.make_batch(number)

    tracker = Losses()
    score: Callable[[], float] | None = (lambda: -float(torch.rand(1))) if config.validate_every else None
    with patch.object(state_timer, "TIMES_APART", 0.0):  # a state after each step, however long one takes
        fit(case.module.train(), make, case.loss_of, config, device=device, folder=folder, tracker=tracker, score=score)
    return tracker.losses


def stage_folder(path: Path, name: str) -> StageFolder:
    return StageFolder(Storage(str(path)), "gpu", name)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_steps_in_mixed_precision(device: torch.device, name: str, accumulate: int, tmp_path: Path) -> None:
    case = CASES[name](device)
    before = {key: value.detach().clone() for key, value in case.module.state_dict().items()}
    config = LOOP.model_copy(update={"accumulate": accumulate, "freeze_normalisation": name == "detector"})
    losses = train(case, device, stage_folder(tmp_path, "a"), config)
    assert len(losses) == LOOP.num_steps
    assert np.isfinite(losses).all()
    after = case.module.state_dict()
    assert all(value.dtype == before[key].dtype for key, value in after.items())
    moved = [key for key, value in case.module.named_parameters() if not torch.equal(value, before[key])]
    assert len(moved) > len(list(case.module.parameters())) // 2


@pytest.mark.parametrize("name", ["selector", "generator", "clip"])
def test_the_first_loss_is_the_cpu_s(device: torch.device, name: str, tmp_path: Path) -> None:
    """Not of the detector: which anchors and proposals it learns from is drawn on the GPU."""
    once = LOOP.model_copy(update={"num_steps": 1})
    cpu = torch.device("cpu")
    losses = [
        train(without_drop(CASES[name](where)), where, stage_folder(tmp_path, str(number)), once)[0]
        for number, where in enumerate((cpu, device))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02), "bfloat16 has three digits"


class Known(nn.Module):
    """A linear layer; how much is known differs from batch to batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(6, 1)

    def loss(self) -> CountedLoss[Tensor]:
        def parts(rows: Tensor) -> dict[str, Tensor]:
            rows = rows.to(self.layer.weight.device)
            known = torch.isfinite(rows).all(dim=1)
            errors = self.layer(torch.nan_to_num(rows)).square()[:, 0]
            return {"error": (errors * known).sum() / known.sum().clamp(min=1)}

        return CountedLoss(parts, lambda rows: {"error": torch.isfinite(rows).all(dim=1).sum()})


def rows_of(number: int) -> Tensor:
    rows = torch.randn(8, 6, generator=torch.Generator().manual_seed(number))
    rows[: number % 5] = torch.nan
    return rows


def test_batches_that_are_accumulated_count_as_one(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted_loss, "autocast", lambda *_: torch.autocast("cpu", enabled=False))
    weights = []
    for accumulate in (1, 4):
        model = Known().to(device)
        case = TrainingCase(model, rows_of, model.loss())
        if accumulate == 1:
            case = TrainingCase(model, lambda step: torch.cat([rows_of(4 * step + i) for i in range(4)]), model.loss())
        train(case, device, stage_folder(tmp_path, str(accumulate)), LOOP.model_copy(update={"accumulate": accumulate}))
        weights.append(model.layer.weight.detach().cpu())
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


class Dropping(nn.Module):
    """Layers whose sums do not depend on the order in which a GPU takes them, and random numbers of the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), nn.Linear(32, 1))

    def loss(self, rows: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        rows = torch.nan_to_num(rows.to(self.body[0].weight.device))
        return (self.body(rows) + 0.1 * torch.rand(len(rows), 1, device=rows.device)).square().mean(), {}


def dropping(device: torch.device) -> TrainingCase:
    seed_everything(5)
    module = Dropping().to(device)
    return TrainingCase(module, rows_of, module.loss)


@pytest.mark.parametrize("dies_at", [3, 7])
def test_a_training_that_died_goes_on_as_if_nothing_had_been(
    device: torch.device, tmp_path: Path, dies_at: int
) -> None:
    undisturbed = dropping(device)
    wanted = train(undisturbed, device, stage_folder(tmp_path, "a"), LONG)
    folder, died = stage_folder(tmp_path, "b"), dropping(device)
    with pytest.raises(Interrupted):
        train(died, device, folder, LONG, dies_at=dies_at)
    state = folder.latest_state()
    assert state is not None
    assert 0 < state.step <= dies_at
    assert ("rng.cuda" in state.tensors) == (device.type == "cuda")
    assert all(tensor.device.type == "cpu" for tensor in state.tensors.values())
    resumed = dropping(device)
    seed_everything(99)  # another process knows nothing of the random state
    found = train(resumed, device, folder, LONG)
    assert found == pytest.approx(wanted[-len(found) :], rel=1e-6)
    for key, value in undisturbed.module.state_dict().items():
        assert torch.allclose(resumed.module.state_dict()[key], value, atol=1e-7), key


@pytest.mark.parametrize("name", CASES)
def test_stages_are_taken_up_where_they_were(
    device: torch.device, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GPU adds some gradients in any order, so two undisturbed runs may differ too: they say by how much."""
    config = LONG.model_copy(update={"num_steps": 8, "validate_every": 0})
    runs = []
    for number in range(2):
        seed_everything(7)
        runs.append(train(CASES[name](device), device, stage_folder(tmp_path, str(number)), config))
    folder = stage_folder(tmp_path, "resumed")
    seed_everything(7)
    with pytest.raises(Interrupted):
        train(CASES[name](device), device, folder, config, dies_at=5)
    found = train(CASES[name](device), device, folder, config)
    between = max(abs(a - b) for a, b in zip(*runs, strict=True))
    apart = max(abs(a - b) for a, b in zip(found, runs[0][-len(found) :], strict=True))
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: resumed {apart:.1e} from undisturbed, two undisturbed {between:.1e} apart ")
    assert apart <= max(1e-6 if device.type == "cpu" else 1e-4, 10 * between)


@pytest.mark.parametrize("spoilt", [[5], [2, 3]])
def test_a_step_that_is_no_number_leaves_no_trace(device: torch.device, tmp_path: Path, spoilt: list[int]) -> None:
    case = dropping(device)
    module: Any = case.module
    seen: list[dict[str, Tensor]] = []

    def loss_of(batch: tuple[int, Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
        number, rows = batch
        seen.append({key: value.detach().clone() for key, value in module.state_dict().items()})
        loss, parts = module.loss(rows)
        return loss * (torch.nan if number in spoilt else 1.0), parts

    fit(
        module.train(), lambda number: (number, rows_of(number)), loss_of, LOOP.model_copy(update={"num_steps": 8}),
        device=device, folder=stage_folder(tmp_path, "a"), tracker=NullTracker(),
    )  # fmt: skip
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())
    for step in spoilt:
        assert all(torch.equal(seen[step + 1][key], value) for key, value in seen[step].items())
    assert not torch.equal(seen[-1]["body.0.weight"], seen[0]["body.0.weight"])


def test_what_never_is_a_number_ends_the_training(device: torch.device, tmp_path: Path) -> None:
    case = dropping(device)
    case = TrainingCase(case.module, case.make_batch, lambda rows: (case.module.loss(rows)[0] * torch.inf, {}))
    with pytest.raises(NonFiniteLoss, match="roll-backs"):
        train(case, device, stage_folder(tmp_path, "a"), LOOP.model_copy(update={"num_steps": 40}))
    assert loop.MAX_ROLLBACKS == 2


def test_a_batch_that_is_too_large_is_named(device: torch.device, tmp_path: Path) -> None:
    case = dropping(device)
    huge = TrainingCase(
        case.module, case.make_batch, lambda rows: (torch.empty(1 << 46, device=device).sum() + rows.sum(), {})
    )
    with pytest.raises(DeviceMemoryError, match=r"halve loop\.batch_size"):
        train(huge, device, stage_folder(tmp_path, "a"))
