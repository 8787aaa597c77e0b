"""The client of MLflow, opened inside functions: of SQLite under a local root, or of the server that is named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from crrg.config.base import Settings
from crrg.errors import ModelError, StorageError
from crrg.storage import Storage
from crrg.tracking.server import prepare_environment, tracking_uri

T = TypeVar("T")

MISSING_CODES = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
EVERY_STATE = 3
"""``mlflow.entities.ViewType.ALL``: experiments and runs that were deleted, too, whose artifacts are still there."""


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
    is_there = path in {each.path for each in reach(lambda: repository.list_artifacts(folder or None))}
    if is_there:
        reach(lambda: repository.delete_artifacts(path))
    return is_there


def reach(action: Callable[[], T], subject: str = "") -> T:
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
