"""What the orchestrator has not finished, as Markdown: ``python -m flows.waiting``, the queue of ``crrg status``."""

from __future__ import annotations

import sys

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from crrg.operations.summaries import table

SHOWN = 20
"""A schedule announces its runs a hundred ahead."""
BEGUN = [StateType.RUNNING, StateType.CANCELLING]
OTHERS = [StateType.PENDING, StateType.SCHEDULED, StateType.PAUSED]


def waiting() -> str:
    """Return the runs that run or wait, those that run first, then by the time they are due."""
    with get_client(sync_client=True) as client:
        runs = [*_runs(client, BEGUN), *_runs(client, OTHERS)][:SHOWN]
        flow_ids = sorted({run.flow_id for run in runs})
        flows = client.read_flows(flow_filter=FlowFilter(id=FlowFilterId(any_=flow_ids))) if runs else []
    if not runs:
        return "Nothing is running or waiting in the orchestrator."
    names = {flow.id: flow.name for flow in flows}
    rows = [(names.get(run.flow_id, ""), run.name, run.state_name or "", _queue(run), _due(run)) for run in runs]
    return table(("flow", "run", "state", "queue", "due"), rows)


def _runs(client: SyncPrefectClient, states: list[StateType]) -> list[FlowRun]:
    chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))
    return client.read_flow_runs(flow_run_filter=chosen, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=SHOWN)


def _queue(run: FlowRun) -> str:
    return "/".join(filter(None, (run.work_pool_name, run.work_queue_name)))


def _due(run: FlowRun) -> str:
    return f"{run.expected_start_time:%Y-%m-%d %H:%M}" if run.expected_start_time else ""


if __name__ == "__main__":
    sys.stdout.write(waiting() + "\n")
