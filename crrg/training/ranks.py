"""Training by several processes ("ranks"), each with its own part of every batch and the same weights.

Everything here does nothing in a single process. ``crrg.operations.training.ranks`` starts the processes; whoever else
has called ``torch.distributed.init_process_group`` may call a stage's function as well.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from crrg.config.training import TrainStageConfig
from crrg.errors import DeviceError

Network = TypeVar("Network", bound=nn.Module)

RANKS_VERSION = "4"
"""Raised when the same ranks would train another model, so that a finished run is not reused."""


def num_ranks() -> int:
    """Return how many processes train together, 1 where this one is alone."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, 0 where it is alone; the first one writes states and results."""
    return distributed.get_rank() if num_ranks() > 1 else 0


def rank_parts(config: TrainStageConfig) -> dict[str, Any]:
    """Return the part of a stage's hash that names its ranks; empty for one process."""
    if config.num_ranks == 1:
        return {}
    return {
        "num_ranks": config.num_ranks,
        "sync_normalisation": config.sync_normalisation,
        "ranks_code": RANKS_VERSION,
    }


def own_rows(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return this rank's part of the rows ``[n]`` of a step, as many on every rank."""
    size = len(rows) // num_ranks()
    return rows[rank() * size : (rank() + 1) * size]


def own_seed() -> list[int]:
    """Return what tells this rank's random numbers from the others'; empty where it is alone."""
    return [rank()] if num_ranks() > 1 else []


def sync_normalisation(module: Network, config: TrainStageConfig, device: torch.device) -> Network:
    """Return a network whose batch normalisation takes its statistics over all ranks, where the form asks for it.

    Raises:
        DeviceError: The ranks are on CPUs, where torch has no such normalisation.
    """
    if not config.sync_normalisation or num_ranks() == 1:
        return module
    if device.type != "cuda":
        raise DeviceError(
            "batch normalisation across ranks works on GPUs only; set freeze_normalisation instead, or leave "
            "sync_normalisation out",
            "sync_normalisation",
        )
    converted: Network = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return converted


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of all ranks, ``[ranks * B, ...]``, in the order of the ranks.

    A gradient comes back to the rank that gave the row, summed over what every rank made of it.

    Args:
        rows: ``[B, ...]``, as many on every rank.
    """
    if num_ranks() == 1:
        return rows
    if rows.dtype == torch.bool:
        return gather_rows(rows.to(torch.uint8)).bool()
    return _GatherRows.apply(rows)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:  # noqa: ARG004
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(num_ranks())]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total.chunk(num_ranks())[rank()]


def average_gradients(module: nn.Module) -> None:
    """Replace each gradient by its mean over the ranks; a parameter without one on any of them keeps none.

    Where a rank alone has none, as for a part that its films do not reach, it steps with the mean like the others:
    their weights would drift apart.
    """
    if num_ranks() == 1:
        return
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    has_one = torch.tensor([parameter.grad is not None for parameter in parameters], device=parameters[0].device).int()
    distributed.all_reduce(has_one, distributed.ReduceOp.MAX)
    for parameter, is_reached in zip(parameters, has_one.tolist(), strict=True):
        if is_reached:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)
            parameter.grad /= num_ranks()


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether a flag is set on any rank, the same answer on all of them."""
    if num_ranks() == 1:
        return flag
    raised = torch.tensor(int(flag), device=device)
    distributed.all_reduce(raised, distributed.ReduceOp.MAX)
    return bool(raised)


def mean_over_ranks(value: float, device: torch.device) -> float:
    """Return the mean of every rank's value, the same number on all of them."""
    if num_ranks() == 1:
        return value
    total = torch.tensor(value, device=device)
    distributed.all_reduce(total)
    return float(total) / num_ranks()


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of every rank's values, the same numbers on all of them."""
    if num_ranks() == 1:
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total


def seed_step(seed: int, step: int) -> None:
    """Give each rank random numbers of its own for a step, the same ones whenever a training is taken up again.

    Alone a process goes on with the random state that its training state holds.

    Args:
        seed: Of the training, the same on all ranks.
        step: 0-based.
    """
    if num_ranks() > 1:
        torch.manual_seed(int(np.random.SeedSequence([seed, rank(), step]).generate_state(1, np.uint64)[0]))


def share_buffers(module: nn.Module) -> None:
    """Give all ranks the running statistics of the first one, whose network is the one that is kept."""
    if num_ranks() > 1:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                distributed.broadcast(buffer, 0)


def wait_for_all() -> None:
    """Return when every rank has come here."""
    if num_ranks() > 1:
        distributed.barrier()
