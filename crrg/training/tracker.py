"""What a training says of itself while it runs, and to whom: a run on a tracking server, or nobody."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from crrg.errors import StorageError

logger = logging.getLogger(__name__)

ASK_AGAIN_AFTER_S = 120.0
"""A server that does not answer takes some time for each question, in which a training stands still."""


class Tracker(Protocol):
    """Receives what a run has to say. Never report text of a licensed set, never an identifier of a source."""

    @property
    def run_id(self) -> str:
        """Id of the run; empty where nothing is tracked."""

    def begin(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Go on with an earlier run, where there was one and it is still known, else with a new one; tag it.

        Nothing happens where a run has begun already.
        """

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; nested mappings are flattened with dots."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers by ``protocol/name``."""

    def log_picture(self, name: str, png: bytes) -> None:
        """Record a PNG under ``name`` (with suffix)."""

    def log_text(self, name: str, text: str) -> None:
        """Record a text or JSON document under ``name`` (with suffix)."""

    def log_table(self, name: str, columns: Mapping[str, Sequence[str | float | None]]) -> None:
        """Record a table under ``name`` (``.json``), its columns by their heads."""


class NullTracker:
    """A tracker that forgets everything."""

    run_id = ""

    def begin(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Forget that there was a run."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Forget settings."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Forget numbers."""

    def log_picture(self, name: str, png: bytes) -> None:
        """Forget a picture."""

    def log_text(self, name: str, text: str) -> None:
        """Forget a document."""

    def log_table(self, name: str, columns: Mapping[str, Sequence[str | float | None]]) -> None:
        """Forget a table."""


Entry = tuple[str, Mapping[str, Any]]
"""Something to log: the tracker's method by its name, and what it is given."""


class PatientTracker:
    """Keeps what a tracking server that is away does not take, and hands it over in its order when it is back.

    A training of hours does not end because of it. What a run begins with has to arrive: then nothing is lost yet.
    """

    def __init__(
        self,
        tracker: Tracker,
        clock: Callable[[], float] = time.monotonic,
        may_show: Callable[[], bool] = lambda: True,
    ) -> None:
        """Hand everything on to another tracker.

        Args:
            tracker: Raises a ``StorageError`` where its server is away.
            clock: Seconds from any start.
            may_show: Whether pictures may be handed on, asked before each: they are made of films in memory, which may
                be a removed patient's by then. One that may not is lost.
        """
        self._tracker = tracker
        self._may_show = may_show
        self._clock = clock
        self._waiting: deque[Entry] = deque()
        self._ask_at_s = 0.0
        self._has_begun = False

    @property
    def run_id(self) -> str:
        """Id of the run; empty where nothing is tracked."""
        return self._tracker.run_id

    def begin(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Go on with an earlier run, or begin a new one, where nothing has been logged yet."""
        if not self._has_begun:
            self._tracker.begin(run_id, tags)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; nested mappings are flattened with dots."""
        self._log("log_params", params=params)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers by ``protocol/name``."""
        self._log("log_metrics", metrics=dict(metrics), step=step)

    def log_picture(self, name: str, png: bytes) -> None:
        """Record a PNG under ``name`` (with suffix)."""
        self._log("log_picture", name=name, png=png)

    def log_text(self, name: str, text: str) -> None:
        """Record a text or JSON document under ``name`` (with suffix)."""
        self._log("log_text", name=name, text=text)

    def log_table(self, name: str, columns: Mapping[str, Sequence[str | float | None]]) -> None:
        """Record a table under ``name`` (``.json``), its columns by their heads."""
        self._log("log_table", name=name, columns=columns)

    @property
    def waiting(self) -> tuple[Entry, ...]:
        """What has not been taken so far, in its order."""
        return tuple(self._waiting)

    def close(self) -> tuple[Entry, ...]:
        """Ask a last time, and return what is not taken now either, in its order; whoever asks has to keep it."""
        self._send()
        return self.waiting

    def _log(self, method: str, **given: Any) -> None:
        if not self._has_begun:
            self._hand_on(method, given)
            self._has_begun = True
            return
        self._waiting.append((method, given))
        if len(self._waiting) == 1 or self._clock() >= self._ask_at_s:
            self._send()

    def _hand_on(self, method: str, given: Mapping[str, Any]) -> None:
        if method == "log_picture" and not self._may_show():
            logger.warning("%s is not logged: a patient was removed from the dataset meanwhile", given["name"])
            return
        getattr(self._tracker, method)(**given)

    def _send(self) -> None:
        while self._waiting:
            method, given = self._waiting[0]
            try:
                self._hand_on(method, given)
            except StorageError as error:
                self._ask_at_s = self._clock() + ASK_AGAIN_AFTER_S
                logger.warning("the training goes on, %d entries wait: %s", len(self._waiting), error)
                return
            self._waiting.popleft()
