from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal
from unittest.mock import MagicMock
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.deployments.steps import run_shell_script
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments import bootstrap
from deployments.bootstrap import IDENTIFIED_POOL, NIGHT_POOL, POOL


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WorkPool(Strict):
    name: Literal["local", "night", "deliver"]
    work_queue_name: str = ""
    job_variables: dict[str, Any] = Field(default_factory=dict)


class Limit(Strict):
    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]


class Schedule(Strict):
    cron: str
    timezone: str
    slug: str
    active: bool = True


class ShellScript(Strict):
    script: str


class Deployment(Strict):
    name: Literal["local"]
    entrypoint: str
    work_pool: WorkPool
    enforce_parameter_schema: Literal[True]
    concurrency_limit: Limit | None = None
    build: list[dict[Literal["prefect.deployments.steps.run_shell_script"], ShellScript]] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    schedules: list[Schedule] = Field(default_factory=list)


class PrefectFile(Strict):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    name: Literal["crrg"]
    prefect_version: str = Field(alias="prefect-version")
    definitions: dict[str, Any]
    deployments: list[Deployment]


@pytest.fixture(scope="module")
def prefect_file() -> PrefectFile:
    text = (Path(__file__).resolve().parents[2] / "prefect.yaml").read_text()
    return PrefectFile.model_validate(yaml.safe_load(text))


def flow_of(deployment: Deployment) -> Any:
    path, _, function = deployment.entrypoint.partition(":")
    return getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)


def test_every_promised_deployment_is_there(prefect_file: PrefectFile) -> None:
    found = {deployment.entrypoint.split(":")[1] for deployment in prefect_file.deployments}
    assert {"nightly", "retrain", "ingest", "ground", "evaluate", "promote"} <= found


def test_every_entrypoint_imports_and_its_parameters_fit_its_form(prefect_file: PrefectFile) -> None:
    for deployment in prefect_file.deployments:
        flow = flow_of(deployment)
        signature = inspect.signature(flow.fn, eval_str=True)
        (parameter,) = signature.parameters.values()
        assert set(deployment.parameters) <= {parameter.name}
        if deployment.parameters:
            parameter.annotation.model_validate(deployment.parameters["config"])
        assert flow.result_serializer == "json"


def test_a_misspelt_parameter_of_a_deployment_would_be_noticed(prefect_file: PrefectFile) -> None:
    nightly = next(item for item in prefect_file.deployments if item.entrypoint.endswith(":nightly"))
    form = inspect.signature(flow_of(nightly).fn, eval_str=True).parameters["config"].annotation
    with pytest.raises(ValidationError, match="shard_sise"):
        form.model_validate({**nightly.parameters["config"], "shard_sise": 3})


def test_a_deployment_without_an_inbox_says_what_is_missing(
    prefect_file: PrefectFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly = next(item for item in prefect_file.deployments if item.entrypoint.endswith(":nightly"))
    script = nightly.build[0]["prefect.deployments.steps.run_shell_script"].script
    monkeypatch.delenv("CRRG_INBOX", raising=False)
    with pytest.raises(RuntimeError, match="CRRG_INBOX: names the folder"):
        asyncio.run(run_shell_script(script, stream_output=False))
    monkeypatch.setenv("CRRG_INBOX", "s3://inbox/films")
    assert asyncio.run(run_shell_script(script)) == {"stdout": "", "stderr": ""}


def test_nights_and_deliveries_have_pools_of_their_own(
    prefect_file: PrefectFile,
) -> None:
    pools = {item.entrypoint.split(":")[1]: item.work_pool.name for item in prefect_file.deployments}
    assert {flow for flow, pool in pools.items() if pool == IDENTIFIED_POOL} == {"deliver"}
    assert {flow for flow, pool in pools.items() if pool == NIGHT_POOL} == {"nightly"}
    assert set(pools.values()) == {POOL, NIGHT_POOL, IDENTIFIED_POOL}


def test_the_night_never_overlaps_and_retrainings_queue(prefect_file: PrefectFile) -> None:
    limits = {item.entrypoint.split(":")[1]: item.concurrency_limit for item in prefect_file.deployments}
    assert limits["nightly"] == Limit(limit=1, collision_strategy="CANCEL_NEW")
    assert limits["retrain"] == Limit(limit=1, collision_strategy="ENQUEUE")


def test_the_schedule_has_a_zone_a_slug_and_the_nights_own_zone(prefect_file: PrefectFile) -> None:
    (nightly,) = [item for item in prefect_file.deployments if item.schedules]
    (schedule,) = nightly.schedules
    assert schedule.slug
    assert ZoneInfo(schedule.timezone)
    assert nightly.parameters["config"]["timezone"] == schedule.timezone


def test_tasks_try_again_only_what_may_succeed_later() -> None:
    from prefect.states import Failed

    from crrg.errors import ModelError, StorageError
    from tasks.policy import is_worth_retrying

    def state(error: Exception) -> Any:
        return Failed(data=error)

    assert is_worth_retrying(None, None, state(StorageError("away", retryable=True)))
    assert not is_worth_retrying(None, None, state(StorageError("denied")))
    assert not is_worth_retrying(None, None, state(ModelError("mixed")))
    assert not is_worth_retrying(None, None, state(ValueError("bug")))


def test_without_a_webhook_it_is_said_which_nights_nobody_hears_of_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bootstrap, "get_client", lambda **_: nullcontext(MagicMock()))
    monkeypatch.setattr(bootstrap, "ensure_automations", lambda *_: [])
    with caplog.at_level(logging.INFO, logger=bootstrap.logger.name):
        bootstrap.bootstrap()
    said = "failed, cancelled, late and flagged nights are not reported; set it and run crrg bootstrap again"
    assert caplog.messages == [f"CRRG_WEBHOOK_URL is not set: {said}"]
