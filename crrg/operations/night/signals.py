"""SIGTERM during a night: noticed between films, and enforced where a window of films takes too long.

A night may be ended anywhere without loss, so a process that does not come to its next look in time gives the night
back and ends; what the shard has not finished is done again.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from crrg.termination import EXIT_SIGTERM

logger = logging.getLogger(__name__)

GRACE_S = 20.0
"""Time to finish a window of films; platforms that stop a process kill it after 30 seconds."""


@contextmanager
def sigterm_noticed(give_back: Callable[[], None], grace_s: float = GRACE_S) -> Iterator[threading.Event]:
    """Turn SIGTERM into an event for as long as a night runs; in threads, which cannot, nothing is changed.

    Args:
        give_back: Gives the night back; called before a process that was too slow is ended.
        grace_s: Time from the signal to that end, seconds.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def end() -> None:
        logger.warning("stopped before the films in progress were drafted; run the night again to continue")
        try:
            give_back()
        finally:
            os._exit(EXIT_SIGTERM)

    timer = threading.Timer(grace_s, end)
    timer.daemon = True

    def notice(_number: int, _frame: object) -> None:
        if not event.is_set():
            event.set()
            timer.start()

    before = signal.signal(signal.SIGTERM, notice)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
        timer.cancel()
