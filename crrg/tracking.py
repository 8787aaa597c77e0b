"""Where runs are logged and models are registered; the library's only door to mlflow, opened inside functions.

Training knows the ``Tracker`` protocol of ``crrg.training.tracker`` alone, so that it runs where mlflow is not
installed; ``MlflowTracker`` is one. Runs and versions go to SQLite under a local root, or to the server that
``MLFLOW_TRACKING_URI`` names. A registered version carries tags that point to bytes under the root (``bundle_prefix``,
``prefix``, ``sha256``); what an alias means is decided in ``crrg/registry/``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from crrg.config.base import Settings
from crrg.config.flat import flatten
from crrg.config.references import BundleRef, StageResult
from crrg.errors import ModelError, StorageError
from crrg.storage import Storage
from crrg.tracking_server import hurried, prepare_environment, tracking_uri
from crrg.working_folder import working_folder

logger = logging.getLogger(__name__)
T = TypeVar("T")

MAX_PARAMS_PER_CALL = 100
MAX_PARAM_LENGTH = 500
PIPELINE_MODEL = "crrg-pipeline"
MODELS: Mapping[str, str] = {
    PIPELINE_MODEL: "All four stages together: draft reports and labels of frontal chest radiographs, for review by a "
    "radiologist. `champion` drafts the nights, `candidate` was trained last, `previous` was champion before.",
    "crrg-detector": "Finds the 29 anatomical regions of a frontal chest radiograph.",
    "crrg-selector": "Reads each region: is it worth a sentence, is it abnormal, which findings does it show.",
    "crrg-generator": "Words the selected regions.",
    "crrg-clip": "Labels films with calibrated probabilities, compares them with texts; the tag `stage` says whether "
    "it was trained on reports alone (`clip`) or on reports and drafts (`joint`).",
}
"""What each registered model is for, as its page says it."""
MISSING_CODES = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
EVERY_STATE = 3
"""``mlflow.entities.ViewType.ALL``: experiments and runs that were deleted, too, whose artifacts are still there."""
PYFUNC_PACKAGES = ("numpy", "pillow", "pydantic", "safetensors", "tokenizers", "torch", "torchvision", "transformers")


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
            run = _reach(lambda: self._client.create_run(experiment_id, run_name=self._run_name, tags=self._tags))
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
        run = self._earlier_run(run_id)
        if run is None:
            return
        self._run_id, self._known_params = run_id, frozenset(run.data.params)
        _reach(lambda: self._client.update_run(run_id, status="RUNNING"))
        for key, value in self._tags.items():
            _reach(partial(self._client.set_tag, run_id, key, value))
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
            _reach(partial(self._client.log_batch, self.run_id, params=part))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers by ``protocol/name``."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        batch = [Metric(name, float(value), now_ms, step or 0) for name, value in metrics.items()]
        _reach(lambda: self._client.log_batch(self.run_id, metrics=batch))

    def log_picture(self, name: str, png: bytes) -> None:
        """Record a PNG under ``name`` (with suffix)."""
        self._log_bytes(name, png)

    def log_text(self, name: str, text: str) -> None:
        """Record a text or JSON document under ``name`` (with suffix)."""
        self._log_bytes(name, text.encode())

    def log_table(self, name: str, columns: Mapping[str, Sequence[str | float | None]]) -> None:
        """Record a table under ``name`` (``.json``), which the run's page shows as one, its columns by their heads."""
        rows = {head: list(values) for head, values in columns.items()}
        _reach(lambda: self._client.log_table(self.run_id, rows, name))

    def finish(self, status: str) -> None:
        """End the run, if it ever began, as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        if self._run_id:
            _reach(lambda: self._client.set_terminated(self._run_id, status))

    def _earlier_run(self, run_id: str) -> Any:
        """Return a run of an earlier process; ``None`` where there was none, or the server has lost it."""
        if not run_id:
            return None
        try:
            run = _reach(lambda: self._client.get_run(run_id))
        except ModelError:
            run = None
        if run is None or run.info.lifecycle_stage != "active":
            logger.info("%s: the tracking server has no run %s any more, a new one begins", self._run_name, run_id)
            return None
        return run

    def _log_bytes(self, name: str, data: bytes) -> None:
        folder, _, base = name.rpartition("/")
        with working_folder() as temporary:
            (path := temporary / base).write_bytes(data)
            _reach(lambda: self._client.log_artifact(self.run_id, str(path), folder or None))

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = _reach(lambda: self._client.get_experiment_by_name(self._experiment))
        if found is not None:
            return str(found.experiment_id)
        location = f"{self._artifact_location}/{self._experiment}" if self._artifact_location else None
        try:
            return str(self._client.create_experiment(self._experiment, artifact_location=location))
        except MlflowException:  # another process was first
            return str(_reach(lambda: self._client.get_experiment_by_name(self._experiment)).experiment_id)


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


class ModelRegistry:
    """Registered models, their versions, tags and aliases."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        """Name the registry; nothing is sent yet.

        Raises:
            ConfigError: The root is in an object store and no server is named.
        """
        self._settings = settings
        self._storage = storage
        self.uri = tracking_uri(settings, storage)

    def exists(self) -> bool:
        """Return whether there is a registry to ask: a server, or a database that an earlier run made."""
        return not self.uri.startswith("sqlite:") or Path(self.uri.removeprefix("sqlite:///")).exists()

    def register_stage(self, result: StageResult) -> str:
        """Register a finished stage as a version of its part's model and return it; equal weights keep their version.

        The models are ``crrg-detector``, ``crrg-selector``, ``crrg-generator`` and ``crrg-clip``; the joint stage makes
        versions of ``crrg-clip``, told apart by their tag ``stage``.
        """
        name = f"crrg-{result.part}"
        tags = {
            "sha256": result.sha256,
            "prefix": result.prefix,
            "config_hash": result.config_hash,
            "stage": result.stage,
        }
        known = self.find_version(name, {"sha256": result.sha256, "prefix": result.prefix})
        if known or not result.run_id:
            return known
        run = _reach(lambda: self._client.get_run(result.run_id))
        text = json.dumps(result.model_dump(mode="json"), indent=1)
        _reach(lambda: self._client.log_text(result.run_id, text, "checkpoint/result.json"))
        source = f"{run.info.artifact_uri}/checkpoint"
        about = f"Stage `{result.stage}`, weights in `{result.prefix}` under the root."
        version = _reach(
            lambda: self._client.create_model_version(name, source, result.run_id, tags=tags, description=about)
        )
        return str(version.version)

    def register_bundle(
        self, ref: BundleRef, folder: Path, model_file: Path, run_id: str, tags: Mapping[str, str], about: str
    ) -> str:
        """Register a bundle as a new version of ``crrg-pipeline`` and return it.

        Args:
            ref: The bundle.
            folder: Local copy of its files, which become the model's artifacts.
            model_file: Models-from-code file.
            run_id: Run that the version belongs to.
            tags: Further tags of the version.
            about: What the version's page says of it, Markdown.
        """
        import mlflow

        packages = [f"{name}=={importlib.metadata.version(name)}" for name in ("crrg", *PYFUNC_PACKAGES)]
        self._ensure_model(PIPELINE_MODEL)
        all_tags = {**tags, "bundle_id": ref.bundle_id, "bundle_prefix": ref.prefix}
        with _fluent(self.uri), mlflow.start_run(run_id=run_id):
            info = _reach(
                lambda: mlflow.pyfunc.log_model(
                    name=PIPELINE_MODEL,
                    python_model=str(model_file),
                    artifacts={"bundle": str(folder)},
                    pip_requirements=packages,
                )
            )
            version = _reach(
                lambda: self._client.create_model_version(
                    PIPELINE_MODEL, info.model_uri, run_id, tags=all_tags, model_id=info.model_id, description=about
                )
            )
        return str(version.version)

    def find_version(self, name: str, tags: Mapping[str, str]) -> str:
        """Return the newest version that carries all the tags, or an empty string."""
        self._ensure_model(name)
        versions = _reach(lambda: self._client.search_model_versions(f"name='{name}'"))
        matching = [int(v.version) for v in versions if all(v.tags.get(key) == value for key, value in tags.items())]
        return str(max(matching)) if matching else ""

    def version_tags(self, version: str, name: str = PIPELINE_MODEL) -> dict[str, str]:
        """Return a version's tags.

        Raises:
            ModelError: There is no such version.
        """
        found = _reach(lambda: self._client.get_model_version(name, version), f"{name} version {version}")
        return {**found.tags, "run_id": str(found.run_id or "")}

    def set_tags(self, version: str, tags: Mapping[str, str], name: str = PIPELINE_MODEL) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            _reach(partial(self._client.set_model_version_tag, name, version, key, value))

    def aliases(self, name: str = PIPELINE_MODEL) -> dict[str, str]:
        """Return alias to version; empty where the model is not registered."""
        try:
            model = _reach(lambda: self._client.get_registered_model(name), name)
        except ModelError:
            return {}
        return {alias: str(version) for alias, version in model.aliases.items()}

    def set_alias(self, alias: str, version: str, name: str = PIPELINE_MODEL) -> None:
        """Point an alias to a version."""
        _reach(lambda: self._client.set_registered_model_alias(name, alias, version), f"{name} version {version}")

    @property
    def _client(self) -> Any:
        return mlflow_client(self._settings, self._storage)

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, description=MODELS.get(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                _reach(lambda: self._client.get_registered_model(name), name)


def mlflow_client(settings: Settings, storage: Storage) -> Any:
    """Return a client of the tracking server or database; it reports nothing to anybody and gives up early."""
    prepare_environment(settings)
    uri = tracking_uri(settings, storage)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def delete_artifact(settings: Settings, storage: Storage, artifact_uri: str, path: str) -> bool:
    """Remove a file of a run; return whether it was there."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    folder = path.rpartition("/")[0]
    repository = get_artifact_repository(artifact_uri, tracking_uri=tracking_uri(settings, storage))
    is_there = path in {each.path for each in _reach(lambda: repository.list_artifacts(folder or None))}
    if is_there:
        _reach(lambda: repository.delete_artifacts(path))
    return is_there


@contextlib.contextmanager
def _fluent(uri: str) -> Iterator[None]:
    """Point mlflow's fluent calls, and what they ask in turn, at a server; their address is the environment's, too."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def _reach(action: Callable[[], T], subject: str = "") -> T:
    """Run one call; say whether the thing does not exist or the server is out of reach."""
    from mlflow.exceptions import MlflowException

    try:
        return action()
    except MlflowException as error:
        if error.error_code in MISSING_CODES:
            raise ModelError(
                f"the registry does not know it ({str(error)[:200]}); `crrg retrain` makes versions", subject
            ) from error
        raise StorageError(
            f"the tracking server does not answer as expected ({error.error_code}); run again later",
            "MLFLOW_TRACKING_URI",
            retryable=True,
        ) from error
    except Exception as error:  # files go past the server, each client has errors of its own
        if not isinstance(error, OSError) and not type(error).__module__.startswith(("boto3.", "botocore.")):
            raise
        said = getattr(error, "strerror", None) or type(error).__name__
        reason = f"its artifact store does not accept or return a file ({said}); check it, then run again"
        raise StorageError(reason, "MLFLOW_TRACKING_URI", retryable=True) from error
