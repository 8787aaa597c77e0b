"""One pass over films in a process of its own: the model alone, a plain loop, a night, or the flow of a night.

Run: ``python -m benchmarks.nightly.measure model|plain|night|flow INBOX --bundle FOLDER --warm FOLDER``; root and
secret stand in the environment. A few other films go the same way before the clock starts: what a process does once
(models, libraries, the tracking database of a new root) is told apart, as ``start_s``. Prints one line of JSON. Films
may also be PNG: ``model`` then needs none of the libraries that a borrowed GPU machine lacks
(docs/operations/platform.md).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch

from crrg.config.running import NightlyConfig
from crrg.data.decoding.pool import decode_many
from crrg.data.film import DecodedFilm
from crrg.domain.study import Film
from crrg.inference.pipeline import ReportPipeline
from crrg.operations.drafter import bundle_pipeline
from crrg.operations.night.shard import window_size
from crrg.operations.night.steps import run_night
from crrg.operations.root import open_root
from crrg.registry.aliases import resolve_bundle

DATE = "2026-03-01"
WARM_DATE = "2026-02-28"
FILMS = (".dcm", ".png")


def main() -> None:
    begun_s = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("model", "plain", "night", "flow"))
    parser.add_argument("inbox", help="folder, or for a night any URL")
    parser.add_argument("--bundle", required=True, help="folder of the bundle")
    parser.add_argument("--warm", required=True, help="folder with a few other films, which go first")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()
    config = NightlyConfig(inbox=options.inbox, date=DATE, model=options.bundle, settle_s=0, device=options.device)
    storage, settings = open_root()
    pipeline = bundle_pipeline(storage, resolve_bundle(config.model, storage, settings).ref, config.device)
    ready: dict[str, Callable[[NightlyConfig], Callable[[], int]]] = {
        "model": lambda asked: model_alone(films_of(asked), pipeline),
        "plain": lambda asked: lambda: plain(films_of(asked), pipeline),
        "night": lambda asked: lambda: run_night(asked, storage, settings).num_accepted,
        "flow": lambda asked: lambda: flow(asked),
    }
    ready[options.what](config.model_copy(update={"inbox": options.warm, "date": WARM_DATE}))()
    start_s = time.perf_counter() - begun_s
    go = ready[options.what](config)
    cpu_s, wall_s = tree_cpu_s(), time.perf_counter()
    num_drafted = go()
    figures = {
        "films": num_drafted,
        "start_s": start_s,
        "wall_s": time.perf_counter() - wall_s,
        "cpu_s": tree_cpu_s() - cpu_s,
        "threads": torch.get_num_threads(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


def tree_cpu_s() -> float:
    """Return the processor seconds of this process and of the children that have ended; decoders end with a night."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def films_of(config: NightlyConfig) -> list[Path]:
    """Return the films of an inbox that is a folder."""
    return sorted(path for path in Path(config.inbox).rglob("*") if path.suffix in FILMS)


def model_alone(paths: list[Path], pipeline: ReportPipeline) -> Callable[[], int]:
    """Decode all films now; return what drafts them window after window and says how many there were."""
    films = decoded(paths, pipeline.image_size)
    size = window_size(len(films), pipeline)
    windows = [films[start : start + size] for start in range(0, len(films), size)]
    return lambda: sum(len(pipeline.draft(window)) for window in windows)


def plain(paths: list[Path], pipeline: ReportPipeline) -> int:
    """Decode and draft window after window, in one process; nothing is kept. Return how many were drafted."""
    num_drafted, size = 0, window_size(len(paths), pipeline)
    for start in range(0, len(paths), size):
        num_drafted += len(pipeline.draft(decoded(paths[start : start + size], pipeline.image_size)))
    return num_drafted


def decoded(paths: list[Path], image_size: int) -> list[Film]:
    """Return the frontal films of files that can be decoded."""
    outcomes = decode_many((path.read_bytes() for path in paths), image_size, 0)
    films = [outcome.film for outcome in outcomes if isinstance(outcome, DecodedFilm)]
    return [film for film in films if film.view_position.is_frontal]


def flow(config: NightlyConfig) -> int:
    """Run the flow on the Prefect server of the environment; return how many were drafted."""
    from flows.nightly import nightly

    return nightly(config).num_accepted


if __name__ == "__main__":
    main()
