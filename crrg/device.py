"""Where tensors live: device choice, seeds, mixed precision."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np
import torch

from crrg.config.base import Device
from crrg.errors import DeviceError, DeviceMemoryError

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def resolve_device(device: Device) -> torch.device:
    """Return the device to use and log the choice, where it is another one than before.

    Raises:
        DeviceError: ``cuda`` was asked for and none is visible; there is no silent fall to the CPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("no CUDA device is visible; use device=auto or cpu, or run on a GPU machine", "device")
    chosen = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    _log_choice(device, chosen)
    return torch.device(chosen)


@functools.lru_cache(maxsize=1)
def _log_choice(device: Device, chosen: str) -> None:
    logger.info("device %s -> %s", device, chosen)


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """Return bfloat16 mixed precision on a GPU and full precision on a CPU."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def in_batches(count: int, batch_size: int, work: Callable[[int, int], Result]) -> list[Result]:
    """Work through rows batch by batch; where the device's memory does not suffice, in halved batches from there on.

    Args:
        count: Rows.
        batch_size: Rows at once, at most.
        work: Gets the first row of a batch and the one behind its last.

    Returns:
        What ``work`` returned, in order; an empty list for no row.

    Raises:
        DeviceMemoryError: The memory does not suffice for one row.
        DeviceError: The device has failed.
    """
    results: list[Result] = []
    first = 0
    while first < count:
        last = min(first + batch_size, count)
        try:
            results.append(work(first, last))
        except torch.OutOfMemoryError as error:
            if last - first == 1:
                reason = "its memory does not suffice for one film; use a larger one, or --device cpu"
                raise DeviceMemoryError(reason, "device") from error
            batch_size = (last - first) // 2
            logger.warning("out of device memory; going on with batches of %d", batch_size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        except torch.AcceleratorError as error:
            reason = "the device has failed; run again with --device cpu or on another machine: what is done stays"
            raise DeviceError(reason, "device") from error
        else:
            first = last
    return results
