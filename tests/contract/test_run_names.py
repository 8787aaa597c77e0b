"""Runs are named after what they do, also where a schedule and not the form says which night it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from prefect import Flow
from prefect._internal.engine import resolve_custom_flow_run_name
from prefect.client.schemas import FlowRun
from prefect.context import FlowRunContext

from crrg.config.base import FrozenConfig
from crrg.config.references import NightPlan
from crrg.config.running import DeliverConfig, NightlyConfig, PromoteConfig
from flows import nightly as night
from flows.deliver import deliver
from flows.promote import promote

BEFORE_MIDNIGHT = datetime(2026, 11, 19, 23, 30, tzinfo=UTC)


@contextmanager
def running(flow: Flow, config: FrozenConfig, due: datetime | None) -> Iterator[None]:
    """Be in a run of a flow that was due at a time, as the engine is when it names the run."""
    run = FlowRun(flow_id=uuid4(), expected_start_time=due)
    with FlowRunContext.model_construct(flow=flow, flow_run=run, parameters={"config": config}):
        yield


def name_of(flow: Flow, config: FrozenConfig, due: datetime | None = BEFORE_MIDNIGHT) -> str:
    with running(flow, config, due):
        return resolve_custom_flow_run_name(flow, {"config": config})


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"timezone": "Europe/Berlin"}, "nightly-2026-11-20"),
        ({"timezone": "UTC"}, "nightly-2026-11-19"),
        ({"timezone": "Europe/Berlin", "date": "2026-03-09"}, "nightly-2026-03-09"),
    ],
)
def test_a_night_is_named_after_the_date_that_it_takes(said, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = NightlyConfig(inbox="s3://inbox", **said)
    assert name_of(night.nightly, config) == named
    taken: list[str] = []

    def plan_night(given: NightlyConfig) -> NightPlan:
        taken.append(given.date)
        raise KeyboardInterrupt

    monkeypatch.setattr(night, "plan_night", plan_night)
    with running(night.nightly, config, BEFORE_MIDNIGHT), pytest.raises(KeyboardInterrupt):
        night.nightly.fn(config)
    assert named == f"nightly-{taken[0]}"


def test_a_night_that_nobody_scheduled_is_of_today() -> None:
    config = NightlyConfig(inbox="s3://inbox", timezone="UTC")
    days = {f"nightly-{datetime.now(UTC).date()}"}
    named = name_of(night.nightly, config, due=None)
    assert named in days | {f"nightly-{datetime.now(UTC).date()}"}


def test_other_runs_say_what_they_take_too() -> None:
    assert name_of(deliver, DeliverConfig(inbox="s3://inbox")) == "deliver-all-nights"
    assert name_of(deliver, DeliverConfig(inbox="s3://inbox", date="2026-03-09")) == "deliver-2026-03-09"
    assert name_of(promote, PromoteConfig(rollback=True)) == "promote-back"
    assert name_of(promote, PromoteConfig(version=3)) == "promote-3"
