"""One rank of a training: ``python -m crrg.operations.training.rank_process FOLDER RANK RANKS``, a process of its own.

``crrg.operations.training.ranks`` starts it and holds its standard input open; when that closes, the starter is gone.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from crrg.config.references import DatasetRef
from crrg.config.training import TrainStageConfig
from crrg.device import resolve_device
from crrg.errors import CrrgError
from crrg.operations.root import open_root
from crrg.operations.training.train import fit_stage, train_here
from crrg.termination import end_on_sigterm
from crrg.training.tracker import NullTracker

logger = logging.getLogger(__name__)

WAIT = timedelta(minutes=30)
"""Longest time that ranks wait for each other, as at the end, while the first one measures what was trained."""


def run_rank(folder: Path, number: int, num_ranks: int) -> None:
    """Join the group, train, and write the result where this is the first rank.

    Args:
        folder: Has ``orders.json``; the ranks meet there.
        number: Of this rank.
        num_ranks: How many there are.
    """
    orders = json.loads((folder / "orders.json").read_text())
    config = TrainStageConfig.model_validate(orders["config"])
    dataset = DatasetRef.model_validate(orders["dataset"])
    storage, settings = open_root()
    on_gpu = resolve_device(config.device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(number)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=number,
        world_size=num_ranks,
        timeout=WAIT,
    )
    if number:
        fit_stage(orders["stage"], config, dataset, {}, storage, NullTracker())
    else:
        result = train_here(orders["stage"], config, dataset, {}, storage, settings, orders["tags"])
        (folder / "result.json").write_text(result.model_dump_json())
    distributed.destroy_process_group()


def main() -> None:
    """Run a rank; an error of ours is one line on standard error and exit code 1."""
    folder, number, num_ranks = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("crrg").setLevel(logging.WARNING if number else logging.INFO)
    end_on_sigterm()
    threading.Thread(target=_stop_without_starter, daemon=True).start()
    try:
        run_rank(folder, number, num_ranks)
    except CrrgError as error:
        logger.error("rank %d: %s: %s", number, type(error).__name__, error)
        raise SystemExit(1) from None


def _stop_without_starter() -> None:
    # not through a buffer, whose lock this thread would still hold when the process ends
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
