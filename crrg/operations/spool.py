"""Runs for a tracking server that is away: kept in the root and sent later.

What is to be logged is written under ``spool/`` where the server does not answer, and goes out before the next run
that reaches it. Numbers and texts of our own only; a run is forgotten here once it is there: its object is emptied, and
removed by whoever may remove objects. A process that dies between the two sends its run a second time: better twice
than never.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pydantic import Field, ValidationError

from crrg.config.base import FrozenConfig, Settings
from crrg.errors import ConfigError, CrrgError, ModelError
from crrg.storage import Storage, canonical_json, hash_json
from crrg.tracking.runs import MlflowTracker, open_tracker
from crrg.training.tracker import Entry

logger = logging.getLogger(__name__)

PREFIX = "spool/runs"


class TrackedRun(FrozenConfig):
    """One run as a tracking server gets it.

    Attributes:
        experiment: Name of the flow.
        run_name: What to call the run; never an identifier of a source.
        tags: Ids that tie the run to other systems.
        metrics: Numbers by ``protocol/name``.
        texts: Documents by name, with suffix.
        run_id: Run that was begun before the server went away; empty for one of its own.
        params: Settings.
        curves: Numbers by ``protocol/name`` at a step, in their order.
    """

    experiment: str
    run_name: str
    tags: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    texts: dict[str, str] = Field(default_factory=dict)
    run_id: str = ""
    params: dict[str, Any] = Field(default_factory=dict)
    curves: tuple[tuple[int, dict[str, float]], ...] = ()


def track(run: TrackedRun, storage: Storage, settings: Settings) -> str:
    """Send a run, after those that wait; where the server is away or does not take it, it waits too.

    Args:
        run: What to log.
        storage: The root.
        settings: Name the tracking server, if there is one.

    Returns:
        The run's id; empty where it waits.

    Raises:
        ConfigError: The root is in an object store and no server is named: nothing could ever be sent.
        StorageError: The root is out of reach.
    """
    try:
        send_waiting(storage, settings)
        return _send(run, storage, settings)
    except ConfigError:
        raise
    except (CrrgError, OSError) as error:
        _keep(run, storage)
        logger.warning("run %s waits in the spool for the tracking server: %s", run.run_name, reason_of(error))
        return ""


def keep_figures(run: TrackedRun, entries: Sequence[Entry], storage: Storage) -> None:
    """Let the figures and settings wait that a run's server has not taken; documents and pictures are lost, and said.

    Args:
        run: The run that was begun.
        entries: What was not taken, in its order.
        storage: The root.
    """
    curves = tuple((each["step"] or 0, each["metrics"]) for name, each in entries if name == "log_metrics")
    params: dict[str, Any] = {}
    for name, each in entries:
        params |= each["params"] if name == "log_params" else {}
    _keep(run.model_copy(update={"curves": curves, "params": params}), storage)
    logger.warning("run %s: %d entries wait in the spool for the tracking server", run.run_name, len(entries))
    if lost := [each["name"] for _, each in entries if "name" in each]:
        logger.warning("run %s: lost, since the server was away to the end: %s", run.run_name, ", ".join(lost))


def send_waiting(storage: Storage, settings: Settings) -> int:
    """Send the runs that wait, oldest name first; return how many went.

    Figures of a run that was deleted there go into a run of their own. A run that the server does not take (its
    experiment was deleted), or that was damaged, waits on and keeps no other from going.

    Raises:
        StorageError: The server is away; what has not gone still waits.
    """
    keys = [stored.key for stored in storage.list_objects(PREFIX) if stored.size]
    num_sent = 0
    for key in keys:
        try:
            run = TrackedRun.model_validate_json(storage.get(key))
        except ValidationError:
            logger.warning("%s is damaged and keeps waiting; restore it or remove it", key)
            continue
        if not _is_taken(run, storage, settings):
            continue
        storage.put(key, b"")
        storage.discard(key)
        num_sent += 1
    if num_sent:
        logger.info("%d runs that had waited were sent to the tracking server", num_sent)
    return num_sent


def reason_of(error: CrrgError | OSError) -> str:
    """Return what an error of tracking says, in words of our own."""
    return error.reason if isinstance(error, CrrgError) else type(error).__name__


def _is_taken(run: TrackedRun, storage: Storage, settings: Settings) -> bool:
    """Send a run, or say why it waits on."""
    reason = ""
    for each in [run, run.model_copy(update={"run_id": ""})] if run.run_id else [run]:
        try:
            _send(each, storage, settings)
        except ModelError as error:
            reason = error.reason
        else:
            return True
    logger.warning("run %s keeps waiting, since the tracking server does not accept it: %s", run.run_name, reason)
    return False


def _send(run: TrackedRun, storage: Storage, settings: Settings) -> str:
    with open_tracker(settings, storage, run.experiment, run.run_name, run.tags, run_id=run.run_id) as tracker:
        _log(run, tracker)
        return tracker.run_id


def _log(run: TrackedRun, tracker: MlflowTracker) -> None:
    if run.params:
        tracker.log_params(run.params)
    for step, metrics in run.curves:
        tracker.log_metrics(metrics, step)
    if run.metrics:
        tracker.log_metrics(run.metrics)
    for name, text in sorted(run.texts.items()):
        tracker.log_text(name, text)


def _keep(run: TrackedRun, storage: Storage) -> None:
    storage.put(f"{PREFIX}/{run.run_name}-{_digest(run)}.json", canonical_json(run.model_dump(mode="json")))


def _digest(run: TrackedRun) -> str:
    return hash_json(run.model_dump(mode="json"))
