"""An operator's stop: while any object lies at ``control/STOP``, nothing more is begun.

That holds for shards of nights and their publication, deliveries, ingests, groundings, stages of trainings, and what
follows them: bundles, scorecards, and what the gate decides. A person may still promote a version or go back to the one
before, and patients can be forgotten.

What is being done is finished, so that nothing is half-done; everything goes on where it was once the object is gone.
"""

from __future__ import annotations

import time

from crrg.errors import CrrgError
from crrg.storage import Storage

STOP_KEY = "control/STOP"
LOOK_EVERY_S = 5.0
WAY_OUT = (
    f"the object {STOP_KEY} under the root stops all work there. No job may remove it: whoever operates the root does, "
    "where it still lies there; then the night is run again and goes on where it was"
)


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

    def __init__(self, storage: Storage) -> None:
        """Watch a root; the first look is a while from now."""
        self._storage = storage
        self._looked_s = time.monotonic()

    def check(self, done: str) -> None:
        """Look, if the last look is a while ago; see ``check_not_stopped``."""
        if time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        check_not_stopped(self._storage, done)
        self._looked_s = time.monotonic()
