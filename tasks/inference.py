"""The steps of a night."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.events import emit_event

from crrg.config.references import NightPlan, NightSummary, ShardRef, ShardResult
from crrg.config.running import NightlyConfig
from crrg.operations.night.report import report_night
from crrg.operations.night.steps import close_night, draft_shard, open_night, tell_of_earlier
from crrg.operations.root import open_root
from tasks.policy import TASK, gpu_slot, run_tags
from tasks.runners import place

FLAGGED_NIGHT = "crrg.night.flagged"
"""Event of a night that was published and that somebody should look at; automations wait for it."""


@task(task_run_name="plan-night[{config.date}]", **TASK)
def plan_night(config: NightlyConfig) -> NightPlan:
    """Take the night and list what is new, in shards."""
    storage, settings = open_root()
    return open_night(config, storage, settings)


@task(task_run_name="tell-of-earlier-nights[{plan.date}]", **TASK)
def tell_of_earlier_nights(plan: NightPlan) -> list[str]:
    """Tell of nights whose process was ended before it could, as they would have done; return their pages."""
    storage, settings = open_root()
    told = tell_of_earlier(plan, storage, settings, run_tags())
    for summary, _ in told:
        _raise_if_flagged(summary)
    return [page for _, page in told]


@task(task_run_name="draft-films[{plan.date}-{shard.index}]", **TASK)
def draft_films(plan: NightPlan, shard: ShardRef) -> ShardResult:
    """Draft what one shard lists."""
    storage, settings = open_root()
    with gpu_slot(plan.config.device):
        result = draft_shard(plan, shard, storage, settings)
    return result.model_copy(update={"ran_on": place()})


@task(task_run_name="publish-night[{plan.date}]", **TASK)
def publish_night(plan: NightPlan, results: Sequence[ShardResult]) -> NightSummary:
    """Publish the night with one manifest."""
    storage, _ = open_root()
    return close_night(plan, results, storage)


@task(task_run_name="tell-of-night[{summary.date}]", **TASK)
def tell_of_night(summary: NightSummary) -> str:
    """Record a night as a run, raise an event where somebody should look at it, and return its page."""
    storage, settings = open_root()
    page = report_night(summary, storage, settings, tags=run_tags())
    _raise_if_flagged(summary)
    return page


def _raise_if_flagged(summary: NightSummary) -> None:
    """Raise the event of a night that somebody should look at."""
    if (watch := summary.watch) is not None and summary.is_flagged:
        counts = {"num_accepted": summary.num_accepted, "num_quarantined": summary.num_quarantined}
        differs = [each.quantity for each in watch.flagged]
        why = {"differs": differs, "faults": list(watch.faults), "withheld": watch.withheld}
        emit_event(FLAGGED_NIGHT, {"prefect.resource.id": f"crrg.night.{summary.date}"}, payload={**counts, **why})
