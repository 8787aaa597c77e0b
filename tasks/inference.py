"""The steps of a night."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task

from crrg.config.references import NightPlan, NightSummary, ShardRef, ShardResult
from crrg.config.running import NightlyConfig
from crrg.operations.night_steps import close_night, draft_shard, open_night
from crrg.operations.root import open_root
from tasks.policy import TASK, gpu_slot
from tasks.runners import place


@task(task_run_name="plan-night[{config.date}]", **TASK)
def plan_night(config: NightlyConfig) -> NightPlan:
    """Take the night and list what is new, in shards."""
    storage, settings = open_root()
    return open_night(config, storage, settings)


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
