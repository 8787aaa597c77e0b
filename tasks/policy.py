"""How tasks behave: what is tried again, who holds the GPU, which ids go along."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from prefect import runtime
from prefect._internal import control_listener
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.exceptions import TerminationSignal
from prefect.task_runners import ThreadPoolTaskRunner

from crrg.config.base import Device, default_num_workers
from crrg.termination import EXIT_SIGTERM, repeat_dropped_terminations

# in a run of a worker nobody else notices that Python dropped what Prefect's handler of SIGTERM raised
repeat_dropped_terminations(TerminationSignal)

GPU_LIMIT = "gpu"
RETRY_WAITS_S = [10, 60]


def is_worth_retrying(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Return whether the error that ended a task says of itself that the same call may succeed later."""
    error = state.result(raise_on_failure=False)
    return bool(getattr(error, "retryable", False))


TASK: dict[str, Any] = {
    "retries": len(RETRY_WAITS_S),
    "retry_delay_seconds": RETRY_WAITS_S,
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_worth_retrying,
    "cache_policy": NO_CACHE,
    "result_serializer": "json",
}
"""Options of every task. Nothing is cached here: the library knows by content what it has finished."""

FLOW: dict[str, Any] = {"persist_result": True, "result_serializer": "json"}
"""Options of every flow: its result is JSON, so that another process can read it."""

SHARDED_FLOW: dict[str, Any] = {**FLOW, "task_runner": ThreadPoolTaskRunner(max_workers=default_num_workers())}
"""Options of a flow whose shards may run in its own task runner: Prefect's threads would all start at once."""


@contextmanager
def gpu_slot(device: Device) -> Iterator[None]:
    """Hold the GPU of this platform while the block runs; on a machine without a GPU there is nothing to hold.

    A lost lease only warns: a training of hours is not ended because the orchestrator was away for minutes.
    """
    if not _uses_gpu(device):
        yield
        return
    with concurrency(GPU_LIMIT, occupy=1, strict=True, raise_on_lease_renewal_failure=False):
        yield


@contextmanager
def cancelled_as_such() -> Iterator[None]:
    """Say that a run was cancelled where somebody cancelled it; Prefect calls a run crashed that ends by an exit.

    A training that gets SIGTERM writes its state and exits with 143. Meanwhile Prefect's own handler, by which it knows
    a cancellation, is not in its place, so the server is asked. Without a cancellation the exit and its code stay.

    Source: ``commit_control_intent_and_ack`` and ``FlowRunEngine.setup_run_context`` of Prefect 3.8.8.
    """
    try:
        yield
    except SystemExit as end:
        if end.code != EXIT_SIGTERM or not is_being_cancelled():
            raise
        control_listener._set_intent("cancel")
        raise TerminationSignal(signal.SIGTERM) from end


def is_being_cancelled() -> bool:
    """Return whether somebody has asked to cancel the run that this one belongs to; false where no server answers."""
    with suppress(Exception), get_client(sync_client=True) as client:
        state = client.read_flow_run(runtime.flow_run.root_flow_run_id).state
        return state is not None and state.is_cancelling()
    return False


def run_tags() -> dict[str, str]:
    """Return the orchestrator's ids, by which a tracked run finds its flow and task run."""
    ids = {
        "prefect.flow_run_id": runtime.flow_run.id,
        "prefect.root_flow_run_id": runtime.flow_run.root_flow_run_id,
        "prefect.task_run_id": runtime.task_run.id,
    }
    return {name: str(value) for name, value in ids.items() if value}


def _uses_gpu(device: Device) -> bool:
    if device != "auto":
        return device == "cuda"
    import torch

    return bool(torch.cuda.is_available())
