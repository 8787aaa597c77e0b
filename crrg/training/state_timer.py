"""When a training writes its next state: so often that little is lost with it, so seldom that little goes into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

TIMES_APART = 20.0
"""States lie so many times as far apart as the last one took: at most a twentieth of a training goes into them."""


class StateTimer:
    """Knows when the last state was written and how long that took."""

    def __init__(self, every_s: float, clock: Callable[[], float]) -> None:
        """Begin now, as if a state had just been written in no time.

        Args:
            every_s: Least time between two states, seconds; more where writing one takes long.
            clock: Seconds from any start.
        """
        self._every_s = every_s
        self._clock = clock
        self._saved_at_s = clock()
        self._took_s = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the next state should be written."""
        return self._clock() - self._saved_at_s > max(self._every_s, TIMES_APART * self._took_s)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure how long a state takes that is written in the block."""
        began_s = self._clock()
        yield
        self._saved_at_s = self._clock()
        self._took_s = self._saved_at_s - began_s
