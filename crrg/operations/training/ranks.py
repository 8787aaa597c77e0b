"""Starts the ranks of a training: processes on this machine that train one stage together, each with its part.

The first rank does what a training alone does, its tracked run and registration included; the others only compute. A
rank that ends badly ends all of them: a state is written every now and then, and an equal command goes on from there.
SIGTERM reaches every rank, and ranks whose starter is gone stop by themselves.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from crrg.config.base import FLAG_ROOT, Stage
from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import TrainStageConfig
from crrg.errors import ConfigError, TrainingError
from crrg.storage import Storage
from crrg.termination import EXIT_SIGTERM

logger = logging.getLogger(__name__)

STAGES_WITH_RANKS: tuple[Stage, ...] = ("detector", "clip")
"""Stages that stand on no other and whose batches are cut into parts."""
PROGRAM = ("-m", "crrg.operations.training.rank_process")
LOOK_EVERY_S = 0.2
OTHERS_FOLLOW_S = 1.0
"""A rank that dies takes others down, which lose their connection; within this time the first to blame is known."""
STOP_WITHIN_S = 60.0
"""Time to write a state after SIGTERM."""


def train_in_ranks(
    stage: Stage, config: TrainStageConfig, dataset: DatasetRef, storage: Storage, tags: Mapping[str, str]
) -> StageResult:
    """Train a stage in several processes and return what the first rank made.

    Args:
        stage: One of ``STAGES_WITH_RANKS``.
        config: Form of the stage; ``num_ranks`` processes are started, on GPUs one for each.
        dataset: Version to train on.
        storage: Root.
        tags: Ids for the tracked run.

    Raises:
        TrainingError: A rank ended badly.
        SystemExit: SIGTERM arrived; a state was written, the code is 143.
    """
    with tempfile.TemporaryDirectory(prefix="crrg-ranks-") as folder:
        orders = {
            "stage": stage,
            "config": config.model_dump(mode="json"),
            "dataset": dataset.model_dump(mode="json"),
            "tags": dict(tags),
        }
        (Path(folder) / "orders.json").write_text(json.dumps(orders))
        with started(Path(folder), config.num_ranks, storage.root) as processes:
            watch(processes, stage)
        return StageResult.model_validate_json((Path(folder) / "result.json").read_text())


def check_ranks(stage: Stage, config: TrainStageConfig) -> None:
    """Refuse ranks for a stage that trains in one process, and more ranks than GPUs; on CPUs they share what there is.

    Raises:
        ConfigError: The stage or the machine has no place for them.
    """
    if config.num_ranks == 1:
        return
    if stage not in STAGES_WITH_RANKS:
        raise ConfigError(
            f"the {stage} stage trains in one process; several ranks are for {' and '.join(STAGES_WITH_RANKS)}",
            "num_ranks",
        )
    import torch

    num_devices = torch.cuda.device_count() if config.device != "cpu" else 0
    if num_devices and config.num_ranks > num_devices:
        raise ConfigError(
            f"{config.num_ranks} ranks need a GPU each, {num_devices} visible; use fewer ranks, or --device cpu",
            "num_ranks",
        )


@contextmanager
def started(folder: Path, num_ranks: int, root: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the ranks of a folder with ``orders.json``; at the end of the block all that still run are stopped."""
    threads = max(1, (os.cpu_count() or 1) // num_ranks)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, FLAG_ROOT: root}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(num_ranks):
            command = [sys.executable, *PROGRAM, str(folder), str(number), str(num_ranks)]
            processes.append(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE))
        yield processes
    finally:
        stop(processes)


def watch(processes: Sequence[subprocess.Popen[bytes]], stage: str) -> None:
    """Return when all ranks have ended well.

    Raises:
        TrainingError: One has not.
        SystemExit: One was told to stop; the code is 143.
    """
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):
            time.sleep(OTHERS_FOLLOW_S)
            break
        time.sleep(LOOK_EVERY_S)
    codes = {number: process.poll() for number, process in enumerate(processes)}
    bad = {number: code for number, code in codes.items() if code}
    if not bad:
        return
    # a rank that was killed is to blame for what the others then ran into
    number, code = min(bad.items(), key=lambda item: (item[1] > 0, item[0]))
    if set(bad.values()) == {EXIT_SIGTERM}:
        raise SystemExit(EXIT_SIGTERM)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}, see its message"
    raise TrainingError(
        f"rank {number} of {len(processes)} {how}; the others were stopped, run again to continue from the last state",
        stage,
    )


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Tell the ranks that still run to stop, and kill those that do not in time."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    until_s = time.monotonic() + STOP_WITHIN_S
    for process in running:
        try:
            process.wait(max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.warning("a rank did not stop within %.0f s and is killed", STOP_WITHIN_S)
            process.kill()
            process.wait()
    for process in processes:
        if process.stdin is not None:
            process.stdin.close()
