"""Runs: what trainings, evaluations and nights log, as one MLflow run each.

Training knows the ``Tracker`` protocol of ``crrg.training.tracker`` alone, so that it runs where mlflow is not
installed; ``MlflowTracker`` is one.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from crrg.config.base import Settings
from crrg.config.flat import flatten
from crrg.errors import ModelError, StorageError
from crrg.storage import Storage
from crrg.tracking.client import mlflow_client, reach
from crrg.tracking.server import hurried
from crrg.working_folder import working_folder

logger = logging.getLogger(__name__)

MAX_PARAMS_PER_CALL = 100
MAX_PARAM_LENGTH = 500
PARENT_TAG, NOTE_TAG = "mlflow.parentRunId", "mlflow.note.content"
"""Tags that MLflow's pages read: the run that this one is part of, and what stands on top of its page, Markdown."""


class MlflowTracker:
    """Logs to one MLflow run, which begins with the first thing logged: a reused stage leaves no empty run."""

    def __init__(
        self, client: Any, experiment: str, artifact_location: str, run_name: str, tags: Mapping[str, str],
        run_id: str = "",
    ) -> None:  # fmt: skip
        """Remember where to log; nothing is sent yet. A run that was begun before is gone on with."""
        self._client = client
        self._experiment = experiment
        self._artifact_location = artifact_location
        self._run_name = run_name
        self._tags = dict(tags)
        self._run_id = run_id
        self._known_params: frozenset[str] = frozenset()

    @property
    def run_id(self) -> str:
        """Id of the run, which begins here at the latest."""
        if not self._run_id:
            experiment_id = self._experiment_id()
            run = reach(lambda: self._client.create_run(experiment_id, run_name=self._run_name, tags=self._tags))
            self._run_id = str(run.info.run_id)
            logger.info("%s: MLflow run %s of experiment %s", self._run_name, self._run_id, self._experiment)
        return self._run_id

    def begin(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Go on with an earlier run, where the server still has it, else with a new one, which begins later; tag it.

        Nothing happens where a run has begun already.
        """
        if self._run_id:
            return
        self._tags |= tags
        run = self._active_run(run_id)
        if run is None:
            return
        self._run_id, self._known_params = run_id, frozenset(run.data.params)
        reach(lambda: self._client.update_run(run_id, status="RUNNING"))
        for key, value in self._tags.items():
            reach(partial(self._client.set_tag, run_id, key, value))
        logger.info("%s: goes on as MLflow run %s of experiment %s", self._run_name, run_id, self._experiment)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; nested mappings are flattened with dots, long values are cut.

        Those that an earlier piece of the run has recorded stay: a server refuses to change them.
        """
        from mlflow.entities import Param

        flat = [
            Param(name, value[:MAX_PARAM_LENGTH])
            for name, value in flatten(params).items()
            if name not in self._known_params
        ]
        for start in range(0, len(flat), MAX_PARAMS_PER_CALL):
            part = flat[start : start + MAX_PARAMS_PER_CALL]
            reach(partial(self._client.log_batch, self.run_id, params=part))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers by ``protocol/name``."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        batch = [Metric(name, float(value), now_ms, step or 0) for name, value in metrics.items()]
        reach(lambda: self._client.log_batch(self.run_id, metrics=batch))

    def log_picture(self, name: str, png: bytes) -> None:
        """Record a PNG under ``name`` (with suffix)."""
        self._log_bytes(name, png)

    def log_text(self, name: str, text: str) -> None:
        """Record a text or JSON document under ``name`` (with suffix)."""
        self._log_bytes(name, text.encode())

    def log_table(self, name: str, columns: Mapping[str, Sequence[str | float | None]]) -> None:
        """Record a table under ``name`` (``.json``), which the run's page shows as one, its columns by their heads."""
        rows = {head: list(values) for head, values in columns.items()}
        reach(lambda: self._client.log_table(self.run_id, rows, name))

    def adopt(self, children: Mapping[str, str]) -> None:
        """Become the parent of other runs and list them, with links, on this run's page.

        Those that another run is the parent of keep it. Those that the server no longer has are left out.

        Args:
            children: What each is called to its id, of whichever experiment.
        """
        lines = []
        for name, run_id in children.items():
            child = self._active_run(run_id)
            if child is None:
                continue
            if PARENT_TAG not in child.data.tags:
                reach(partial(self._client.set_tag, run_id, PARENT_TAG, self.run_id))
            link = f"#/experiments/{child.info.experiment_id}/runs/{run_id}"
            lines.append(f"- {name}: [{child.info.run_name}]({link})")
        if lines:
            text = "Its parts were trained in these runs:\n\n" + "\n".join(lines)
            reach(lambda: self._client.set_tag(self.run_id, NOTE_TAG, text))

    def finish(self, status: str) -> None:
        """End the run, if it ever began, as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        if self._run_id:
            reach(lambda: self._client.set_terminated(self._run_id, status))

    def _active_run(self, run_id: str) -> Any:
        """Return a run that was begun elsewhere; ``None`` for an empty id, or where the server has it no more."""
        if not run_id:
            return None
        try:
            run = reach(lambda: self._client.get_run(run_id))
        except ModelError:
            run = None
        if run is None or run.info.lifecycle_stage != "active":
            logger.info("%s: the tracking server has no run %s any more", self._run_name, run_id)
            return None
        return run

    def _log_bytes(self, name: str, data: bytes) -> None:
        folder, _, base = name.rpartition("/")
        with working_folder() as temporary:
            (path := temporary / base).write_bytes(data)
            reach(lambda: self._client.log_artifact(self.run_id, str(path), folder or None))

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = reach(lambda: self._client.get_experiment_by_name(self._experiment))
        if found is not None:
            return str(found.experiment_id)
        location = f"{self._artifact_location}/{self._experiment}" if self._artifact_location else None
        try:
            return str(self._client.create_experiment(self._experiment, artifact_location=location))
        except MlflowException:  # another process was first
            return str(reach(lambda: self._client.get_experiment_by_name(self._experiment)).experiment_id)


@contextlib.contextmanager
def open_tracker(
    settings: Settings,
    storage: Storage,
    experiment: str,
    run_name: str,
    tags: Mapping[str, str] | None = None,
    run_id: str = "",
) -> Iterator[MlflowTracker]:
    """Yield a tracker whose run ends with the block: finished, failed, or killed by a signal.

    Args:
        settings: Name the tracking server, if there is one.
        storage: The root; a local one holds the database where there is no server.
        experiment: Name of the flow, e.g. ``train-detector``.
        run_name: What to call the run; never an identifier of a source.
        tags: Ids that tie the run to other systems.
        run_id: Run that was begun before, to go on with.

    Raises:
        ConfigError: The root is in an object store and no server is named.
        StorageError: The tracking server is out of reach.
    """
    tracker = MlflowTracker(
        mlflow_client(settings, storage),
        experiment,
        "" if settings.mlflow_tracking_uri else storage.url("mlflow-artifacts"),
        run_name,
        tags or {},
        run_id,
    )
    try:
        yield tracker
    except BaseException as error:
        is_killed = not isinstance(error, Exception)
        try:
            with hurried() if is_killed else contextlib.nullcontext():
                tracker.finish("KILLED" if is_killed else "FAILED")
        except StorageError as away:
            logger.warning("%s: the end of its run could not be recorded: %s", run_name, away)
        raise
    tracker.finish("FINISHED")
