"""Batches of a training, made one step ahead in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from crrg.config.training import LoopConfig

Batch = TypeVar("Batch")


@contextmanager
def prefetched(
    make_batch: Callable[[int], Batch], first: int, config: LoopConfig
) -> Iterator[Iterator[tuple[int, list[Batch]]]]:
    """Yield an iterator over steps and their batches; those of one step are made ahead in a thread."""
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")

    def begin(step: int) -> list[Future[Batch]]:
        numbers = range(step * config.accumulate, (step + 1) * config.accumulate)
        return [pool.submit(make_batch, number) for number in numbers]

    def steps() -> Iterator[tuple[int, list[Batch]]]:
        if first >= config.num_steps:
            return
        ahead = begin(first)
        for step in range(first, config.num_steps):
            batches = [future.result() for future in ahead]
            if step + 1 < config.num_steps:
                ahead = begin(step + 1)
            yield step, batches

    try:
        yield steps()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
