"""Where shards run: one task for every shard, handed to the task runner that a form names.

The only place that knows task runners. Every worker process, on this machine or another, opens root and archives with
settings of its own environment: what travels is a form and a reference.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner

from crrg.config.base import CORES_VARIABLE, default_num_workers
from crrg.config.fan_out import FanOut
from crrg.errors import ConfigError

LOOK_FOR_PARENT_S = 1.0


def run_shards(fan_out: FanOut, shard_task: Task[..., Any], calls: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Call a task once for every shard, where the form says.

    Args:
        fan_out: Where shards run.
        shard_task: The task; its module must be importable wherever it runs.
        calls: Its parameters, one set for each shard.

    Returns:
        The results, in the order of the calls.

    Raises:
        ConfigError: Ray is asked for and not installed, or its cluster would have no Prefect server to report to.
        CrrgError: What ended a shard after its retries; shards that were not begun are left.
    """
    if fan_out.task_runner == "here" or not calls:
        return [shard_task(**call) for call in calls]
    if fan_out.task_runner == "flow":
        futures = [shard_task.submit(**call) for call in calls]
        return [future.result() for future in futures]
    with _one_server(fan_out), task_runner(fan_out) as runner, _needs(fan_out):
        futures = [runner.submit(shard_task, dict(call)) for call in calls]
        return [future.result() for future in futures]


def task_runner(fan_out: FanOut) -> TaskRunner[Any]:
    """Return the task runner for ``processes`` or ``ray``, not yet started.

    Raises:
        ConfigError: Ray is asked for and not installed.
    """
    if fan_out.task_runner == "processes":
        num_processes = fan_out.max_processes or default_num_workers()
        share = max(1, (os.cpu_count() or 1) // num_processes)
        return ProcessPoolTaskRunner(max_workers=num_processes, initializer=_begin, initargs=(os.getpid(), share))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        from prefect_ray import RayTaskRunner
    except ImportError:
        raise ConfigError(
            "Ray is not installed; pip install -e '.[ray]' in the checkout, on every machine", "task_runner"
        ) from None
    options = {"address": fan_out.ray_address} if fan_out.ray_address else {"init_kwargs": {"include_dashboard": False}}
    runner: TaskRunner[Any] = RayTaskRunner(**options)
    return runner


def place() -> str:
    """Return which machine and process runs this, for people: the host, or the node of a Ray cluster."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return f"Ray node {ray.get_runtime_context().get_node_id()[:8]}, process {os.getpid()}"
    return f"{platform.node()}, process {os.getpid()}"


@contextmanager
def _one_server(fan_out: FanOut) -> Iterator[None]:
    """Have worker processes report to the server of this run; each would start a private one where none is named.

    Raises:
        ConfigError: Other machines could not reach a server that is private to this run.
    """
    if PREFECT_API_URL.value():
        yield
        return
    if fan_out.ray_address:
        raise ConfigError("the machines of a Ray cluster need one Prefect server; name it", "PREFECT_API_URL")
    with get_client(sync_client=True) as client:
        address = str(client.api_url)
    with temporary_settings({PREFECT_API_URL: address}):
        yield


def _needs(fan_out: FanOut) -> AbstractContextManager[object]:
    """Tell Ray what a shard needs beside one processor."""
    if fan_out.task_runner != "ray" or not fan_out.gpus_per_shard:
        return nullcontext()
    from prefect_ray.context import remote_options

    needed: AbstractContextManager[object] = remote_options(num_gpus=fan_out.gpus_per_shard)
    return needed


def _begin(parent: int, num_threads: int) -> None:
    """Begin a worker process: it takes its share of the cores, and ends when its parent is gone.

    Models of several processes that each take all cores wait for one another's threads most of the time; and a pool
    whose owner was killed would wait for work for ever.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(num_threads))
    os.environ.setdefault(CORES_VARIABLE, str(num_threads))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_FOR_PARENT_S)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
