"""The tracking server as a place: its address, what its client reads from the environment, how long it is waited for.

Knows no mlflow; whoever talks to the server is ``client.py`` beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

from crrg.config.base import Settings
from crrg.errors import ConfigError
from crrg.storage import Storage

HURRIED = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


def tracking_uri(settings: Settings, storage: Storage) -> str:
    """Return the address of the tracking server, or of the database under a local root.

    Raises:
        ConfigError: The root is in an object store, where no database can lie, and no server is named.
    """
    if settings.mlflow_tracking_uri:
        return settings.mlflow_tracking_uri
    if not storage.is_local:
        raise ConfigError(
            "a root in an object store needs a tracking server; set MLFLOW_TRACKING_URI (make up starts one)",
            "MLFLOW_TRACKING_URI",
        )
    return f"sqlite:///{storage.url('mlflow.db')}"


def prepare_environment(settings: Settings) -> None:
    """Let mlflow report nothing to anybody, give up early, and write artifacts as the root is written."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    if written := settings.storage.write_arguments():
        os.environ.setdefault("MLFLOW_S3_UPLOAD_EXTRA_ARGS", json.dumps(written))


@contextlib.contextmanager
def hurried() -> Iterator[None]:
    """Ask a server once, for seconds: a process that is told to end does not wait for one that hangs."""
    before = {name: os.environ.get(name) for name in HURRIED}
    os.environ.update(HURRIED)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
