"""Quality of classification, of consistency and of the joint loop, on a finished root of the preset ``small``.

Run: ``python -m benchmarks.quality_classification --root ROOT [--source SOURCE] [--pieces read,fused,...]``. The root
must hold the datasets ``demo`` and ``demo-fresh`` and a bundle (``make quality`` makes both). Pieces that were finished
are found under ``ROOT/classification`` and not done again. Prints one JSON object per piece.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks.classification.ablation import run_source
from benchmarks.classification.consistency import measure_consistency
from benchmarks.classification.fused import measure_fused
from benchmarks.classification.readings import SplitReadings, read_split
from benchmarks.classification.rounds import run_variants
from crrg.config.references import BundleRef
from crrg.data.batches import FilmTable, load_films
from crrg.data.pairs import resolve_dataset
from crrg.device import resolve_device
from crrg.domain.study import Split
from crrg.inference.pipeline import ReportPipeline
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage

TOWER_SIZE = 128
PIECES = (
    "read",
    "fused",
    "consistency",
    "ablation-real",
    "ablation-generated",
    "ablation-generated-masked",
    "ablation-joint",
    "ablation-supervised",
    "rounds",
)


class Bench:
    """A root, its bundle, and what was read so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.storage = Storage(options.root)
        name = options.bundle or next(iter(sorted(self.storage.list_folder("models/bundles"))))
        self.bundle_id = name.rstrip("/").rsplit("/", 1)[-1]
        self.folder = f"classification/{self.bundle_id[:8]}"
        self.read = cache(self._read)
        self.films = cache(self._films)
        self.pipeline = cache(self._pipeline)

    def _pipeline(self) -> ReportPipeline:
        ref = BundleRef(bundle_id=self.bundle_id, prefix=f"models/bundles/{self.bundle_id}")
        return ReportPipeline.from_bundle(read_bundle(self.storage, ref), resolve_device("cpu"))

    def _read(self, part: str) -> SplitReadings:
        name = "demo-fresh" if part == "test" else "demo"
        limit = self.options.train_films if part == "train" else 0
        dataset = resolve_dataset(self.storage, name, "")
        folder = f"{self.folder}/{name}-{part}"
        return read_split(self.pipeline(), self.storage, dataset, Split(part), folder, limit)

    def _films(self, part: str) -> FilmTable:
        name = "demo-fresh" if part == "test" else "demo"
        dataset = resolve_dataset(self.storage, name, "")
        limit = self.options.train_films if part == "train" else 0
        return load_films(self.storage, dataset, Split(part), TOWER_SIZE, limit)

    def run(self, piece: str) -> dict[str, Any]:
        """Return what a piece found."""
        if piece == "read":
            return {part: len(self.read(part).rows) for part in ("train", "validation", "test")}
        if piece == "fused":
            return measure_fused(self.read("validation"), self.read("test"), self.options.source, self.pipeline())
        if piece == "consistency":
            return measure_consistency(self.read("validation"), self.read("test"), self.pipeline())
        if piece == "rounds":
            reads = {part: self.read(part) for part in ("train", "validation", "test")}
            return run_variants(reads, self.films, self.pipeline(), self.storage, self.folder, self.options.round_steps)
        reads = {part: self.read(part) for part in ("train", "validation", "test")}
        source = piece.removeprefix("ablation-")
        return run_source(source, reads, self.films, self.storage, self.folder, self.options.steps)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--bundle", default="", help="bundle id; empty takes the first")
    parser.add_argument("--source", default="", help="folder of the test cohort with truth.parquet, for the strata")
    parser.add_argument("--pieces", default=",".join(PIECES))
    parser.add_argument("--train-films", type=int, default=1536)
    parser.add_argument("--steps", type=int, default=260)
    parser.add_argument("--round-steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    np.seterr(all="ignore")
    bench = Bench(options)
    say: Callable[[str], None] = lambda line: print(line, flush=True)  # noqa: E731
    for piece in options.pieces.split(","):
        say(json.dumps({piece: bench.run(piece)}, default=float))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
