"""Ranks on a GPU: NCCL with one rank, and two ranks that share one GPU through gloo, which NCCL refuses.

Normalisation over ranks exists on GPUs alone; where the tests run on a CPU it must be refused there by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, multiprocessing, nn

from crrg.config.training import LoopConfig, TrainStageConfig
from crrg.device import autocast, resolve_device
from crrg.errors import DeviceError
from crrg.storage import Storage
from crrg.training import counted_loss
from crrg.training.checkpoint import StageFolder
from crrg.training.loop import fit
from crrg.training.ranks import _GatherRows, num_ranks, rank, sync_normalisation
from crrg.training.tracker import NullTracker

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
ROWS = 8
LOOP = LoopConfig(num_steps=4, batch_size=ROWS, learning_rate=0.01)
FORM = TrainStageConfig(dataset="drawn", num_ranks=2, sync_normalisation=True)


def rows_at(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(2 * ROWS, 3, 8, 8, generator=generator) * (1 + torch.arange(2 * ROWS).view(-1, 1, 1, 1))


def own_rows(step: int) -> Tensor:
    return rows_at(step)[rank() * ROWS : (rank() + 1) * ROWS] if num_ranks() > 1 else rows_at(step)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1)
    )


def all_digits(*_: object) -> AbstractContextManager[None]:
    """Stand in for mixed precision, so that weights can be compared."""
    return nullcontext()


def train(device: torch.device, folder: str) -> dict[str, Tensor]:
    module = sync_normalisation(network().to(device), FORM, device)

    def loss(rows: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        return module(rows.to(device)).square().mean(), {}

    stage = StageFolder(Storage(folder), "gpu", f"{num_ranks()}")
    fit(
        module, own_rows, loss, LOOP.model_copy(update={"validate_every": 2}), device=device, folder=stage,
        tracker=NullTracker(), score=lambda: float(rank()),
    )  # fmt: skip
    return {name: value.detach().cpu() for name, value in module.state_dict().items()}


def run_rank(number: int, num: int, backend: str, kind: str, folder: str) -> None:
    device = resolve_device(kind)  # type: ignore[arg-type]
    counted_loss.autocast = all_digits  # in a process of this test's own
    distributed.init_process_group(
        backend, init_method=f"file://{folder}/meeting", rank=number, world_size=num, timeout=timedelta(minutes=5)
    )
    found: Any = train(device, folder) if num > 1 else collectives(device)
    if number == 0:
        save_file({name: value.contiguous() for name, value in found.items()}, f"{folder}/found.safetensors")
    distributed.barrier()
    distributed.destroy_process_group()


def collectives(device: torch.device) -> dict[str, Tensor]:
    """Return what each way of talking that training uses gives with one rank, where it is called at all."""
    rows = torch.arange(6.0, device=device).view(3, 2).requires_grad_()
    gathered = _GatherRows.apply(rows)
    (gathered * 2).sum().backward()
    total, shared = torch.ones(3, device=device), torch.full((2,), 5.0, device=device)
    distributed.all_reduce(total)
    distributed.all_reduce(total, distributed.ReduceOp.MAX)
    distributed.broadcast(shared, 0)
    distributed.barrier()
    assert rows.grad is not None
    return {name: each.detach().cpu() for name, each in
            {"gathered": gathered, "gradient": rows.grad, "total": total, "shared": shared}.items()}  # fmt: skip


def started(num: int, backend: str, kind: str, folder: Path) -> dict[str, Tensor]:
    multiprocessing.spawn(run_rank, (num, backend, kind, str(folder)), nprocs=num)
    found: dict[str, Tensor] = load_file(folder / "found.safetensors")
    return found


def test_one_rank_talks_to_itself(device: torch.device, tmp_path: Path) -> None:
    backend = "nccl" if device.type == "cuda" else "gloo"
    found = started(1, backend, device.type, tmp_path)
    assert found["gathered"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert found["gradient"].tolist() == [[2, 2]] * 3
    assert found["total"].tolist() == [1, 1, 1]
    assert found["shared"].tolist() == [5, 5]


def test_tests_that_follow_train_in_mixed_precision(device: torch.device, tmp_path: Path) -> None:
    train(device, str(tmp_path))
    assert counted_loss.autocast is autocast


def test_two_ranks_normalise_together(device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if device.type == "cpu":
        monkeypatch.setattr("crrg.training.ranks.num_ranks", lambda: 2)
        with pytest.raises(DeviceError, match="on GPUs only"):
            sync_normalisation(network(), FORM, device)
        return
    found = started(2, "gloo", "cuda", tmp_path)
    monkeypatch.setattr(counted_loss, "autocast", all_digits)
    alone = train(device, str(tmp_path / "alone"))
    assert found.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.allclose(found[name].float(), value.float(), rtol=1e-3, atol=1e-4), name
