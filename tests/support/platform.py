"""The platform as the end-to-end tests see it: the store, the addresses, the root, and runs through the Prefect API."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from crrg.config.base import Settings
from crrg.storage import Storage
from tests.support.keys import KEY


@dataclass
class S3Store:
    """A running SeaweedFS with one bucket.

    Attributes:
        endpoint_url: Address of its S3 face.
        access_key: Key id of its administrator.
        secret_key: Secret of its administrator.
        bucket: Name of the bucket.
        env: Variables that a child process needs to reach it.
    """

    endpoint_url: str
    access_key: str
    secret_key: str
    bucket: str
    env: dict[str, str]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_root(self) -> str:
        """Return the URL of a prefix that nobody used yet."""
        return f"s3://{self.bucket}/root-{next(self._numbers)}"


@dataclass(frozen=True)
class Platform:
    """Server, worker, tracking and store with every deployment registered.

    Attributes:
        root: Root of the worker, in the bucket.
        inbox: Inbox of the nights, in the bucket.
        mlflow_url: Tracking server.
    """

    root: str
    inbox: str
    mlflow_url: str

    @property
    def storage(self) -> Storage:
        """Storage of the root."""
        return Storage(self.root)

    @property
    def settings(self) -> Settings:
        """Settings as the worker has them."""
        return Settings(root=self.root, mlflow_tracking_uri=self.mlflow_url, hmac_key=KEY)

    def run(self, deployment: str, config: dict[str, Any], timeout_s: float = 600) -> Any:
        """Run a deployment as a user would, through the API, and return the finished flow run."""
        from prefect.deployments import run_deployment

        return run_deployment(deployment, parameters={"config": config}, timeout=timeout_s, poll_interval=2)
