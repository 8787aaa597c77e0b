"""Runs small reads in threads, a bounded number ahead, and gives their results in order.

For the many small objects that an archive keeps beside its films, the row groups of a dataset, and the tables of a
night: one after the other, each would wait for the store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
NUM_THREADS = 8
DEPTH = 32


def map_ahead(work: Callable[[T], R], values: Iterable[T], depth: int = DEPTH) -> Generator[R, None, None]:
    """Yield ``work(value)`` for every value, in order.

    Args:
        work: Called in a thread; an exception ends the whole.
        values: Consumed as results are asked for, by the caller's own thread.
        depth: How many results are in memory at most, that one included which is asked for.
    """
    pool = ThreadPoolExecutor(max_workers=NUM_THREADS, thread_name_prefix="crrg-beside")
    ahead: deque[Future[R]] = deque()
    try:
        for value in values:
            ahead.append(pool.submit(work, value))
            if len(ahead) >= depth:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        # never waits: garbage collection may run this in any thread, in the middle of starting another one
        pool.shutdown(wait=False, cancel_futures=True)
