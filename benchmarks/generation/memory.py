"""Peak memory of a side: one pass in a process of its own, which the command starts for each.

What a process grows by in a later pass says nothing: heap that an earlier one freed hides it. So each process reads one
side's weights, hands free heap back to the system, notes its resident size, and makes one pass. Two processes run at
once where there is room, since nothing is timed. One film stands for films that are taken one by one, each of which
finds the heap that the one before freed. Batches have realistic lengths: the longest sentence decides how much is kept,
and is longer there. Batches of 32 are left out, as there is no published one to hold them against.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from benchmarks.generation.models import Inputs, Ours, Side, draw_inputs, read_ours, read_published
from benchmarks.generation.pieces import Lengths, Piece, Stages, run

NUM_AT_ONCE = 2
GIB_AT_ONCE = 18.0
"""Free memory from which two run at once: the published batch of 8 takes some 9, any other at most 6."""
SIDES: dict[tuple[int, Lengths], tuple[Side, ...]] = {
    (8, "realistic"): ("published", "ours", "fast"),
    (1, "realistic"): ("published", "ours", "fast"),
    (1, "equal"): ("published", "ours", "fast"),
}


def parts() -> list[Piece]:
    """Return the passes whose memory is measured, the longest first."""
    return [Piece(side, batch, lengths, (0, batch), 0) for (batch, lengths), sides in SIDES.items() for side in sides]


def num_at_once() -> int:
    """Return how many processes there is room for at once."""
    return NUM_AT_ONCE if psutil.virtual_memory().available / 2**30 >= GIB_AT_ONCE else 1


def name_of(part: Piece) -> str:
    """Return the key of a pass in the table."""
    return f"memory/{part.side}/batch{part.batch}/{part.lengths}"


def measure(part: Piece, folder: Path) -> dict[str, Any]:
    """Make a pass in a process of its own and return its memory."""
    asked = ("--folder", str(folder), "--side", part.side, "--batch", str(part.batch), "--lengths", part.lengths)
    command = [sys.executable, "-m", "benchmarks.generation.memory", *asked]
    start = time.perf_counter()
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return {**found, "process_s": time.perf_counter() - start}


class PeakStages(Stages):
    """Also keeps the largest resident size of each stage, GiB."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_gib: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage and note its peak."""
        Path("/proc/self/clear_refs").write_text("5")
        with super().__call__(stage):
            yield
        self.peak_gib[stage] = max(self.peak_gib.get(stage, 0.0), status_gib("VmHWM"))


def take(part: Piece, model: Any, inputs: Inputs) -> dict[str, Any]:
    """Make a pass and return what the process had at rest, at most in each stage and at all, and has kept, GiB."""
    ctypes.CDLL(None).malloc_trim(0)
    at_rest = status_gib("VmRSS")
    stages = PeakStages()
    run(part, model, inputs, stages)
    ctypes.CDLL(None).malloc_trim(0)
    return {
        "num_films": part.films[1],
        "resident_gib": at_rest,
        "peak_gib": max(stages.peak_gib.values()),
        "working_gib": max(stages.peak_gib.values()) - at_rest,
        "stage_gib": {stage: peak - at_rest for stage, peak in stages.peak_gib.items()},
        "kept_gib": status_gib("VmRSS") - at_rest,
    }


def status_gib(kind: str) -> float:
    """Return a line of this process' status, ``VmRSS`` or ``VmHWM``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return float(line.split()[1]) / 2**20
    raise AssertionError(f"no {kind}")


def main() -> None:
    """Measure one pass and print it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--side", choices=("published", "ours", "fast"), required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--lengths", choices=("realistic", "equal"), required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    inputs = draw_inputs()
    model = read_published(options.folder) if options.side == "published" else read_ours(options.folder)
    if isinstance(model, Ours) and options.side == "fast":
        model.generator.keep_rounded()
    _touch(model if isinstance(model, nn.Module) else nn.ModuleList([model.detector, model.selector, model.generator]))
    part = Piece(options.side, options.batch, options.lengths, (0, options.batch), 0)
    print(json.dumps(take(part, model, inputs)))


def _touch(network: nn.Module) -> None:
    """Read every weight once, so that weights mapped from a file count as resident."""
    for tensor in network.state_dict().values():
        tensor.double().sum()


if __name__ == "__main__":
    main()
