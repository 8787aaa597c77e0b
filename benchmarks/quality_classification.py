"""Quality of classification, of consistency and of the joint loop, on a finished root of ``tiny`` or ``small``.

Run: ``python -m benchmarks.quality_classification --root ROOT [--source SOURCE] [--pieces read,fused,...]``. The root
must hold the datasets ``demo`` and ``demo-fresh`` and a bundle (``make demo`` or ``make quality`` make both). Strata by
severity come from what was drawn: beside the root where a demo drew its fresh films, or in ``--source``. ``openi``
and ``unseen`` draw and ingest their cohorts under the root's secret first: pictures that fit Open-i's reports (of
``CRRG_OPEN_DATA``), and a cohort of another seed. Pieces that were finished are found under ``ROOT/classification`` and
not done again. Prints one JSON object per piece, then, on standard error, which promises (``classification/floors``) do
not hold, which ends it with 1, and which are not judged since a piece of theirs was not asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks.classification.ablation import run_source
from benchmarks.classification.cohorts import draw_cohort
from benchmarks.classification.consistency import measure_consistency
from benchmarks.classification.floors import partial, unmet
from benchmarks.classification.fused import measure_fused
from benchmarks.classification.readings import SplitReadings, read_split
from benchmarks.classification.real_films import predict_real
from benchmarks.classification.rounds import VARIANTS, decoding_variants, finished_stages, run_variant
from benchmarks.roots import find_bundle
from crrg.config.running import DemoConfig
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.batches import FilmTable, load_films
from crrg.data.dataset.pairs import read_pairs, resolve_dataset
from crrg.device import resolve_device
from crrg.domain.study import Film, Pair, Split
from crrg.inference.pipeline import ReportPipeline
from crrg.operations.demo import fresh_source
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage

EXIT_UNMET = 1
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
    "decoding",
    "unseen",
    "openi",
    "real",
)
NEEDS_OPEN_DATA = ("openi", "real")
FRESH = "demo-fresh"
DRAWN = {"unseen": "demo-unseen", "openi": "demo-openi"}
"""Pieces that draw a cohort of their own, and the dataset it becomes."""


class Bench:
    """A root, its bundle, and what was read so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.storage = Storage(options.root)
        self.bundle = find_bundle(self.storage, options.bundle)
        self.folder = f"classification/{self.bundle.bundle_id[:8]}"
        self.read = cache(self._read)
        self.films = cache(self._films)
        self.pipeline = cache(self._pipeline)

    def _pipeline(self) -> ReportPipeline:
        return ReportPipeline.from_bundle(read_bundle(self.storage, self.bundle), resolve_device("cpu"))

    def _read(self, part: str, name: str = "") -> SplitReadings:
        name = name or (FRESH if part == "test" else "demo")
        limit = self.options.train_films if part == "train" else 0
        dataset = resolve_dataset(self.storage, name, "")
        folder = f"{self.folder}/{name}-{part}"
        return read_split(self.pipeline(), self.storage, dataset, Split(part), folder, limit)

    def _films(self, part: str) -> FilmTable:
        name = FRESH if part == "test" else "demo"
        dataset = resolve_dataset(self.storage, name, "")
        limit = self.options.train_films if part == "train" else 0
        return load_films(self.storage, dataset, Split(part), TOWER_SIZE, limit)

    def _variant(self, name: str) -> dict[str, Any]:
        options = self.options
        settings = {
            "max_rounds": options.rounds,
            "num_films": options.round_films,
            "num_validation_films": options.round_validation_films,
            "generator_steps": options.round_steps,
        }
        train = resolve_dataset(self.storage, "demo", "")
        stages = finished_stages(self.storage, self.bundle.bundle_id)
        form = TrainStageConfig(
            dataset=train.name, dataset_version=train.version, preset=options.preset, device="cpu",
            num_steps=options.clip_steps,
        )  # fmt: skip
        return run_variant(name, stages, form, self._test_films(), self.storage, settings)

    def _test_films(self) -> list[tuple[Pair, Film]]:
        pairs = read_pairs(self.storage, resolve_dataset(self.storage, FRESH, ""), Split.TEST)
        films = [(pair, pair.film) for pair in pairs if pair.film is not None]
        return films[: self.options.test_films or None]

    def _source(self) -> str:
        """Return the folder of what was drawn for the test films; empty where it is not there."""
        source = Storage(self.options.source) if self.options.source else fresh_source(DemoConfig(), self.storage)
        return source.root if source.exists("truth.parquet") else ""

    def run(self, piece: str) -> dict[str, Any]:
        """Return what a piece found."""
        if piece == "read":
            return {part: len(self.read(part).rows) for part in ("train", "validation", "test")}
        if piece == "fused":
            return measure_fused(self.read("validation"), self.read("test"), self._source(), self.pipeline())
        if piece == "consistency":
            return measure_consistency(self.read("validation"), self.read("test"), self.pipeline())
        if piece == "rounds":
            return {name: self._variant(name) for name in self.options.variants.split("|")}
        if piece == "decoding":
            return decoding_variants(self.pipeline(), self._test_films())
        if piece in NEEDS_OPEN_DATA and not os.environ.get("CRRG_OPEN_DATA"):
            return {"not measured": "needs CRRG_OPEN_DATA"}
        if piece == "real":
            return predict_real(self.pipeline(), self.options.cohort_films)
        if piece in DRAWN:
            draw_cohort(self.storage, DRAWN[piece], piece == "openi", self.options.cohort_films, self.options.seed)
            test = self.read("test", DRAWN[piece])
            return {
                "classifiers": measure_fused(self.read("validation"), test, "", self.pipeline()),
                "consistency": measure_consistency(self.read("validation"), test, self.pipeline()),
            }
        reads = {part: self.read(part) for part in ("train", "validation", "test")}
        source = piece.removeprefix("ablation-")
        return run_source(source, reads, self.films, self.storage, self.folder, self.options.steps)


def main() -> int:
    """Measure the pieces that are asked for, and fail where a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--bundle", default="", help="bundle id; empty takes the champion, else the newest")
    parser.add_argument("--source", default="", help="folder of the test cohort; empty takes a demo's fresh films")
    parser.add_argument("--pieces", default=",".join(PIECES))
    parser.add_argument("--train-films", type=int, default=1536)
    parser.add_argument("--steps", type=int, default=260)
    parser.add_argument("--preset", choices=("tiny", "small"), default="small", help="of the root")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--round-films", type=int, default=512)
    parser.add_argument("--round-validation-films", type=int, default=200)
    parser.add_argument("--test-films", type=int, default=0, help="of the pieces rounds and decoding; 0 takes all")
    parser.add_argument("--clip-steps", type=int, default=0, help="of CLIP in each round; 0 takes the preset's")
    parser.add_argument("--round-steps", type=int, default=60)
    parser.add_argument("--variants", default="|".join(VARIANTS), help="of the rounds, between bars")
    parser.add_argument("--cohort-films", type=int, default=300, help="of the pieces unseen, openi and real")
    parser.add_argument("--seed", type=int, default=20_261_128, help="of the cohorts that are drawn here")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    np.seterr(all="ignore")
    bench = Bench(options)
    found: dict[str, dict[str, Any]] = {}
    for piece in options.pieces.split(","):
        found[piece] = bench.run(piece)
        print(json.dumps({piece: found[piece]}, default=float), flush=True)
    return verdict(found)


def verdict(found: Mapping[str, Mapping[str, Any]]) -> int:
    """Say which promises do not hold and which are not judged; return the exit code."""
    for line in partial(found):
        print(f"partial: {line}", file=sys.stderr)
    wrong = unmet(found)
    for line in wrong:
        print(f"does not hold: {line}", file=sys.stderr)
    return EXIT_UNMET if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
