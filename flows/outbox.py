"""What Prefect's client has not sent yet when a run has ended: it gets some seconds more, then it is dropped."""

from __future__ import annotations

import concurrent.futures
import logging
import sys

logger = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""More than the 7 s for which Prefect's client tries one event again, so that a server may restart meanwhile."""


def send_the_rest(patience_s: float = PATIENCE_S) -> None:
    """Wait until the events and log lines of this process are sent, and drop what is not by then.

    Prefect's client keeps a process alive until its queues are empty. Where the server is gone it tries each event for
    7 s (11 times), one after the other: minutes for a night. ``drain_all`` gives up waiting and leaves the work going,
    for which the end of the process waits all the same; so that work is cancelled.

    Args:
        patience_s: How long to wait, seconds. An open connection that does not answer any more may take 10 s to close.

    Source: ``prefect/_internal/concurrency/services.py`` and ``PrefectEventsClient._emit`` of Prefect 3.8.8.
    """
    if "prefect.events.worker" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker

    # every service of the client is in this one table, that of the log lines as well; draining forgets their tasks
    services = list(EventsWorker._instances.values())  # type: ignore[misc]
    tasks = [(service, service._task) for service in services]
    drained = EventsWorker.drain_all(timeout=patience_s)
    assert isinstance(drained, tuple), "called with an event loop running, it would have to be awaited"
    _, waiting = drained
    if not waiting:
        return
    for service, task in tasks:
        if service._loop and task:
            service._loop.call_soon_threadsafe(task.cancel)
    concurrent.futures.wait(waiting, timeout=patience_s)
    logger.warning("the Prefect server did not take all events and log lines within %.0f s; dropped", patience_s)
