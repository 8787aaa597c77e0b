"""Where tensors live: device choice, seeds, mixed precision."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from crrg.config.base import Device, Precision
from crrg.errors import DeviceError, DeviceMemoryError

logger = logging.getLogger(__name__)
FAILED = "the device has failed; run again with --device cpu or on another machine: finished work is kept"
MEMORY_WORDS = ("DefaultCPUAllocator", "not enough memory", "error: out of memory", "ALLOC_FAILED", "ALLOCATION_FAILED")
"""What is said of short memory without an error class for it: by a CPU, and by libraries beside torch's allocator."""
ONEDNN_MEMORY = ("could not create a primitive", "could not execute a primitive", "could not create a memory object")
"""All that a CPU's products say where they find no memory; longer messages that begin so are of other causes."""
FAILURE_WORDS = ("CUDA error: ", "CUDA driver error: ", "cuDNN error: ", "cusolver error: ")
"""What the libraries of a GPU say, in errors of no class of their own, where a call has failed."""
Result = TypeVar("Result")


def resolve_device(device: Device) -> torch.device:
    """Return the device to use and log the choice, where it is another one than before.

    On a GPU convolutions then compute in all digits of float32, which torch leaves out unless it is told so. The GPU is
    named by its number: where a process took another one than the first, its threads would else take the first.

    Raises:
        DeviceError: ``cuda`` was asked for and none is visible; there is no silent fall to the CPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("no CUDA device is visible; use device=auto or cpu, or run on a GPU machine", "device")
    chosen = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    _log_choice(device, chosen)
    if chosen == "cpu":
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", torch.cuda.current_device())


@functools.lru_cache(maxsize=1)
def _log_choice(device: Device, chosen: str) -> None:
    logger.info("device %s -> %s", device, chosen)


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def autocast(device: torch.device, precision: Precision = "fast") -> AbstractContextManager[None]:
    """Return bfloat16 mixed precision on a GPU, unless all digits are asked for, and full precision on a CPU."""
    if device.type == "cuda" and precision == "fast":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a GPU; what torch keeps for later counts as free."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def in_batches(count: int, batch_size: int, work: Callable[[int, int], Result]) -> list[Result]:
    """Work through rows batch by batch; where memory does not suffice, in halved batches from there on.

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
    return _backing_off(count, batch_size, lambda first, last, _: work(first, last), is_padded=False)


def in_tiles(count: int, tile_size: int, work: Callable[[NDArray[np.int64], int], Result]) -> list[Result]:
    """Work through rows in tiles of one size, so that what is said of a row does not depend on how many there are.

    Where memory does not suffice, the tiles themselves are halved from there on; then the last digits may change.

    Args:
        count: Rows.
        tile_size: Rows of a tile.
        work: Gets the numbers of the tile's rows, the last repeated where there are too few, and how many are real.

    Returns:
        What ``work`` returned, in order; an empty list for no row.

    Raises:
        DeviceMemoryError: The memory does not suffice for one row.
        DeviceError: The device has failed.
    """

    def tile(first: int, last: int, size: int) -> Result:
        return work(np.minimum(np.arange(first, first + size), last - 1), last - first)

    return _backing_off(count, tile_size, tile, is_padded=True)


@contextlib.contextmanager
def failures_named(way_out: str) -> Iterator[None]:
    """Turn what a device says of its memory and of itself within the block into errors of ours.

    Args:
        way_out: What its memory does not suffice for, and what to do then.

    Raises:
        DeviceMemoryError: The memory does not suffice.
        DeviceError: The device has failed.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        _raise_unless_of_memory(error)
        raise DeviceMemoryError(way_out, "device") from error


def _backing_off(
    count: int, batch_size: int, work: Callable[[int, int, int], Result], *, is_padded: bool
) -> list[Result]:
    """Call ``work`` with first row, row behind the last, and the size of a batch, which halves where need be."""
    results: list[Result] = []
    first = 0
    while first < count:
        last = min(first + batch_size, count)
        try:
            results.append(work(first, last, batch_size))
        except (RuntimeError, MemoryError) as error:
            _raise_unless_of_memory(error)
            num_rows = batch_size if is_padded else last - first
            if num_rows == 1:
                reason = "not enough memory for a single film; free some, or, on a GPU, use --device cpu"
                raise DeviceMemoryError(reason, "device") from error
            batch_size = num_rows // 2
            logger.warning("out of memory; continuing with batches of %d", batch_size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        else:
            first = last
    return results


def _raise_unless_of_memory(error: Exception) -> None:
    """Return where memory was short; else raise the error, under its name where the device has failed."""
    text = str(error)
    is_said = text in ONEDNN_MEMORY or any(word in text for word in MEMORY_WORDS)
    if is_said or isinstance(error, torch.OutOfMemoryError | MemoryError):
        return
    if isinstance(error, torch.AcceleratorError) or any(word in text for word in FAILURE_WORDS):
        raise DeviceError(FAILED, "device") from error
    raise error
