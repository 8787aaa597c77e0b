"""Say how far a long step is, at most every few seconds, as log lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

EVERY_S = 5.0


def log_progress(what: str, every_s: float = EVERY_S) -> Callable[..., None]:
    """Return a callback that takes how many are done and how many there are (0 = unknown), and logs now and then.

    Args:
        what: What is counted, e.g. ``films read``.
        every_s: Seconds between lines; the last of a known number is always said.
    """
    said_at = time.monotonic()

    def say(num_done: int, total: int = 0) -> None:
        nonlocal said_at
        now = time.monotonic()
        if now - said_at < every_s and num_done != total:
            return
        said_at = now
        logger.info("%s: %d%s", what, num_done, f" of {total}" if total else "")

    return say
