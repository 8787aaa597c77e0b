"""Real servers, started once per test session on free loopback ports and ended with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from deployments.services import (
    Service,
    deploy_all,
    start_mlflow,
    start_object_store,
    start_prefect_server,
    start_worker,
)
from tests.support.keys import KEY
from tests.support.platform import Platform, S3Store
from tests.support.review_browser import run_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def s3_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Store]:
    """Start one S3 server for all tests; its address and keys stand in the environment meanwhile."""
    access_key, secret_key, bucket = "crrg-test-key", "crrg-test-secret", "crrg"
    folder = tmp_path_factory.mktemp("object-store")
    service = start_object_store(folder, access_key=access_key, secret_key=secret_key, bucket=bucket)
    before = {name: os.environ.get(name) for name in service.env}
    os.environ.update(service.env)
    try:
        yield S3Store(service.url, access_key, secret_key, bucket, dict(service.env))
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        service.stop(0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run Chromium for the tests of one file."""
    yield from run_browser()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Start one MLflow server."""
    service = start_mlflow(tmp_path_factory.mktemp("mlflow"))
    yield service
    service.stop(0)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Start one Prefect server; clients of this process talk to it, in whatever thread they are."""
    from prefect.context import refresh_global_settings_context

    service = start_prefect_server(tmp_path_factory.mktemp("prefect"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "PREFECT_HOME"):
            patch.setenv(name, service.env[name])
        refresh_global_settings_context()
        yield service
    refresh_global_settings_context()
    service.stop(0)


@pytest.fixture(scope="session")
def platform(
    s3_store: S3Store, mlflow_server: Service, prefect_server: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """Register every deployment and start a worker whose root is in the bucket."""
    from deployments.bootstrap import NIGHT_POOL, POOL, bootstrap

    root = s3_store.new_root()
    env = {
        **s3_store.env,
        **mlflow_server.env,
        **prefect_server.env,
        "CRRG_ROOT": root,
        "CRRG_INBOX": f"{root}-inbox",
        "CRRG_HMAC_KEY": KEY,
    }
    assert bootstrap()[:4] == ["work pool local", "work pool night", "work pool deliver", "limit gpu = 1"]
    assert bootstrap() == []
    deploy_all(env)
    workers = [start_worker(tmp_path_factory.mktemp("worker"), pool=pool, env=env) for pool in (POOL, NIGHT_POOL)]
    yield Platform(root=root, inbox=f"{root}-inbox", mlflow_url=mlflow_server.url)
    for worker in workers:
        worker.stop(2)
