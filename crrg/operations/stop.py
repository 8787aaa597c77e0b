"""An operator's stop: while any object lies at ``control/STOP``, nothing more is begun.

That holds for shards of nights and their publication, deliveries, ingests and stages of trainings.

What is being done is finished, so that nothing is half-done; everything goes on where it was once the object is gone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from crrg.errors import CrrgError
from crrg.storage import Storage

STOP_KEY = "control/STOP"
LOOK_EVERY_S = 5.0


def is_stopped(storage: Storage) -> bool:
    """Return whether an operator wants work under a root to stop."""
    return storage.exists(STOP_KEY)


def check_not_stopped(storage: Storage, done: str) -> None:
    """Refuse to begin work.

    Args:
        storage: The root.
        done: What is done so far, for the message.

    Raises:
        CrrgError: An operator wants it to stop.
    """
    if is_stopped(storage):
        raise CrrgError(f"stopped by an operator, {done}; remove this object and run again", STOP_KEY)


class StopWatch:
    """Looks for an operator's stop every few seconds of a step that knows no parts."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch a root.

        Args:
            storage: The root.
            clock: Seconds from any start.
        """
        self._storage, self._clock = storage, clock
        self._looked_s = clock()

    def check(self, done: str) -> None:
        """Look, if the last look is a while ago; see ``check_not_stopped``."""
        if self._clock() - self._looked_s < LOOK_EVERY_S:
            return
        check_not_stopped(self._storage, done)
        self._looked_s = self._clock()
