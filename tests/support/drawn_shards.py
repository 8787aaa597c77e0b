"""The shards of a drawn night, as a task and a flow that worker processes can import; the models are a stand-in."""

from __future__ import annotations

from prefect import flow, task

from crrg.config.base import default_num_workers
from crrg.config.fan_out import FanOut
from crrg.config.references import NightPlan, ShardRef, ShardResult
from crrg.operations.night.nightly import run_shard
from crrg.storage import Storage
from tasks.policy import FLOW, TASK
from tasks.runners import place, run_shards
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter


@task(**TASK)
def draft_drawn(root: str, plan: NightPlan, shard: ShardRef) -> ShardResult:
    """Draft one shard of a drawn night."""
    result = run_shard(plan, shard, Storage(root), PSEUDONYMS, StandInDrafter())
    return result.model_copy(update={"ran_on": place()})


@task(**TASK)
def cores_taken() -> tuple[int, int]:
    """Return how many threads models run in here, and how many decoders would be started."""
    import torch

    return torch.get_num_threads(), default_num_workers()


@flow(**FLOW)
def drawn_cores(fan_out: FanOut) -> list[tuple[int, int]]:
    """Ask two shards how much of the machine they take."""
    asked: list[tuple[int, int]] = run_shards(fan_out, cores_taken, [{}, {}])
    return asked


@flow(**FLOW)
def drawn_night(root: str, plan: NightPlan, fan_out: FanOut) -> list[ShardResult]:
    """Draft all shards of a drawn night where the form says."""
    results: list[ShardResult] = run_shards(
        fan_out, draft_drawn, [{"root": root, "plan": plan, "shard": shard} for shard in plan.shards]
    )
    return results
