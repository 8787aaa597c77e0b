"""How far a long step is: told to whoever listens, and as log lines now and then.

Library code counts and knows no terminal. A process that can draw a bar listens (``crrg.cli.terminal``); everywhere
else the log lines are all there is: none for a step of a few seconds, about ten for a step of minutes, two a minute
for one of hours.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

logger = logging.getLogger(__name__)

SHORTEST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 30.0
SHARE_WORTH_A_LINE = 0.1


@dataclass(frozen=True)
class Progress:
    """How far a step is.

    Attributes:
        what: The step, e.g. ``detector``.
        unit: What is counted, e.g. ``steps``.
        num_done: How many are done.
        total: How many there are; 0 = unknown.
        left_s: Seconds that the rest takes at the speed so far; ``None`` where that is unknown.
        note: A few words more, e.g. the loss.
    """

    what: str
    unit: str
    num_done: int
    total: int = 0
    left_s: float | None = None
    note: str = ""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left; never where the total is unknown."""
        return 0 < self.total <= self.num_done

    def __str__(self) -> str:
        of_total = f" of {self.total}" if self.total else ""
        left = f"about {span(self.left_s)} left" if self.left_s is not None and not self.is_done else ""
        return ", ".join(filter(None, (f"{self.what}: {self.num_done}{of_total} {self.unit}", self.note, left)))


class Say(Protocol):
    """Takes how far a step is."""

    def __call__(self, num_done: int, total: int = 0, note: str = "") -> None:
        """Say how many are done, how many there are (0 = unknown), and a few words more."""


Listener = Callable[[Progress], None]
_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell a listener of every progress of this process while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def count_progress(what: str, unit: str, start: int = 0, clock: Callable[[], float] = time.monotonic) -> Say:
    """Return a callback that takes how far a step is, up to its end.

    Args:
        what: The step; no identifier of a source.
        unit: What is counted, in the plural.
        start: How many were done before, e.g. by a run that was stopped.
        clock: Seconds.
    """
    started_s = said_s = clock()
    said_share: float | None = None
    has_said = is_over = False

    def say(num_done: int, total: int = 0, note: str = "") -> None:
        nonlocal said_s, said_share, has_said, is_over
        if is_over:
            return
        now_s = clock()
        per_item_s = (now_s - started_s) / (num_done - start) if num_done > start else None
        left_s = per_item_s * (total - num_done) if total and per_item_s is not None else None
        progress = Progress(what, unit, num_done, total, left_s, note)
        is_over = progress.is_done
        for listener in tuple(_listeners):
            listener(progress)
        pause_s, share = now_s - said_s, num_done / total if total else 0.0
        said_share = start / total if total and said_share is None else said_share or 0.0
        if is_over:
            is_due = has_said
        else:
            is_far = share - said_share >= SHARE_WORTH_A_LINE or not total
            is_due = pause_s >= LONGEST_PAUSE_S or (pause_s >= SHORTEST_PAUSE_S and is_far)
        if is_due:
            said_s, said_share, has_said = now_s, share, True
            logger.info("%s", progress)

    return say


def span(seconds: float) -> str:
    """Return a time span in words: ``45 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class StageClock:
    """Adds up how long each stage of a piece of work took."""

    def __init__(self) -> None:
        """Start with no stage."""
        self.times_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block's time for a stage."""
        started_s = time.monotonic()
        try:
            yield
        finally:
            self.times_s[name] = self.times_s.get(name, 0.0) + time.monotonic() - started_s
