"""What other work on the machine costs: `python -m benchmarks.shared_machine --root ROOT`.

Other processes compute beside a training step (the detector of a preset) and beside drafts (the champion of a root, its
fresh drawn films), once with threads that sleep after a short wait (``crrg.WAIT_COUNT``) and once as torch's OpenMP
waits by itself. Each measurement is a process of its own, both ways take turns.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

from benchmarks.roots import find_bundle
from benchmarks.training_step import drawn_batch, take_step
from crrg import WAIT_COUNT
from crrg.config.presets import stage_training
from crrg.data.dataset.pairs import resolve_dataset
from crrg.data.dataset.spaced import sampled_films
from crrg.domain.study import Split
from crrg.inference.pipeline import ReportPipeline
from crrg.models.detector import RegionDetector
from crrg.operations.demo import FRESH_DATASET
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage

WAYS = {"short wait": WAIT_COUNT, "libgomp's wait": "300000"}
"""Way to ``GOMP_SPINCOUNT``; the second is its own number where no thread shares a core with another."""
WORKS = ("training step", "draft")
CHUNK_SIZE = 16
BUSY = "while True: pass"


def main() -> int:
    """Measure in processes of their own and print a table, or measure one work in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="with a champion and fresh films, as a demo leaves it")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="numbers of processes beside")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", choices=("tiny", "small"), default="small", help="of the training step")
    parser.add_argument("--steps", type=int, default=3, help="training steps of one measurement")
    parser.add_argument("--films", type=int, default=64, help="drafted in one measurement")
    parser.add_argument("--only", choices=WORKS, default=None, help="measure this here and print its seconds")
    options = parser.parse_args()
    if options.only:
        measure = step_s if options.only == "training step" else draft_s
        print(measure(options))
        return 0
    print(f"{torch.get_num_threads()} threads, {os.cpu_count()} cores; median of {options.rounds} (least to most)\n")
    print(f"| work | processes beside | {' | '.join(f'{way}, s' for way in WAYS)} | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for work in WORKS:
        for num_busy in options.busy:
            print(row(work, num_busy, options.rounds, functools.partial(in_child, work)), flush=True)
    return 0


def row(work: str, num_busy: int, rounds: int, measure: Callable[[str], float]) -> str:
    """Return the row of a table: seconds of both ways, taken in turns beside busy processes, and their ratio."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with busy_processes(num_busy):
        for _ in range(rounds):
            for way, seconds in found.items():
                seconds.append(measure(way))
    cells = [f"{median(each):.3f} ({min(each):.3f} to {max(each):.3f})" for each in found.values()]
    ours, theirs = (median(each) for each in found.values())
    return f"| {work} | {num_busy} | {' | '.join(cells)} | {theirs / ours:.2f} |"


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep so many processes computing until the end."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def in_child(work: str, way: str) -> float:
    """Return the seconds of one training step or draft in a new process."""
    command = [sys.executable, "-m", "benchmarks.shared_machine", *sys.argv[1:], "--only", work]
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env = {**kept, "GOMP_SPINCOUNT": WAYS[way]}
    done = subprocess.run(
        command, env=env, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout)


def step_s(options: argparse.Namespace) -> float:
    """Return the median seconds of a training step, after a first one that does not count."""
    settings = stage_training(options.preset, "crrg").detector
    films, boxes = drawn_batch(settings.loop.batch_size, settings.architecture.input_size)
    torch.manual_seed(0)
    model = RegionDetector(settings.architecture).train()
    model.fit_regions(boxes / settings.architecture.input_size)
    return median([take_step(model, films, boxes).wall_s for _ in range(1 + options.steps)][1:])


def draft_s(options: argparse.Namespace) -> float:
    """Return the seconds of a draft, over films in chunks of which the first does not count."""
    storage = Storage(options.root)
    pipeline = ReportPipeline.from_bundle(read_bundle(storage, find_bundle(storage)), torch.device("cpu"))
    dataset = resolve_dataset(storage, FRESH_DATASET, "")
    films = [film for _, film in sampled_films(storage, dataset, Split.TEST, CHUNK_SIZE + options.films)]
    pipeline.draft(films[:CHUNK_SIZE])
    start = time.perf_counter()
    for first in range(CHUNK_SIZE, len(films), CHUNK_SIZE):
        pipeline.draft(films[first : first + CHUNK_SIZE])
    return (time.perf_counter() - start) / (len(films) - CHUNK_SIZE)


if __name__ == "__main__":
    raise SystemExit(main())
