"""A night: what is new in the inbox becomes drafts and labels."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import flow, runtime

from crrg.config.references import NightSummary
from crrg.config.running import NightlyConfig
from crrg.operations.night.nightly import check_ended_well, dated
from crrg.operations.night.steps import give_back
from crrg.operations.summaries import plan_markdown, shards_markdown
from flows.finished import keep
from flows.pages import show_page
from tasks.inference import draft_films, plan_night, publish_night, tell_of_earlier_nights, tell_of_night
from tasks.policy import SHARDED_FLOW
from tasks.runners import run_shards


def with_date(config: NightlyConfig) -> NightlyConfig:
    """Return the form with the date that this run's night takes: its own, or the day that the run was due."""
    return dated(config, runtime.flow_run.scheduled_start_time or datetime.now(UTC))


def run_name() -> str:
    """Return what a run is called, and what word of it calls the night: a schedule's form holds no date."""
    return f"nightly-{with_date(runtime.flow_run.parameters['config']).date}"


@flow(flow_run_name=run_name, **SHARDED_FLOW)
def nightly(config: NightlyConfig) -> NightSummary:
    """Draft what is new in the inbox and publish it with one manifest.

    A night that was cut off is run again: finished shards are kept. Drafts are for review by a radiologist. Of a night
    that refused too much the drafts are published and the run has failed, with the reasons in its state. The run of a
    night that control/STOP ended, or that another one kept from beginning, has failed, too: nothing of it is published.

    Args:
        config: Inbox, date, model, shard size, limits, where shards run.
    """
    plan = plan_night(with_date(config))
    try:
        show_page(plan_markdown(plan), "nightly-plan")
        for page in tell_of_earlier_nights(plan):
            show_page(page, "nightly")
        results = run_shards(config.fan_out, draft_films, [{"plan": plan, "shard": shard} for shard in plan.shards])
        summary = publish_night(plan, results)
        keep(summary)
    finally:
        give_back(plan)
    show_page(tell_of_night(summary) + shards_markdown(results), "nightly")
    check_ended_well(summary)
    return summary
