"""Speed and memory of the classification module (``make bench-classification``).

A training step beside a plain re-implementation of the published one, zero-shot inference beside CheXzero's procedure,
a thousand films against a thousand prompts, and the memory of 1,024 pairs. All sides take turns in one process on one
thread, on the same weights; CPU seconds, median of the repeats. Every measurement is noted in ``pieces.json`` as it
ends, and a call that is stopped is gone on with by the next. ``report.md`` has the tables; status 1 where the training
step of the same maths is not twice as fast.
Run: ``python -m benchmarks.classification_speed [--batch 16] [--folder FOLDER]``
"""

from __future__ import annotations

import argparse
import csv
import logging
from pathlib import Path

import torch

from benchmarks.classification.speed_inference import measure_films, measure_product, measure_prompts
from benchmarks.classification.speed_memory import measure_memory
from benchmarks.classification.speed_tables import markdown, training_ratio
from benchmarks.classification.speed_training import (
    NUM_STUDIES,
    SIDES,
    Sides,
    compare_gradients,
    describe_texts,
    measure_step,
)
from benchmarks.resumable import Table
from crrg.config.base import Settings
from crrg.data.phantom.cohort import drawn_study
from crrg.domain.report import Report

logger = logging.getLogger(__name__)
MIN_TRAINING_RATIO = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".make/classification"))
    parser.add_argument("--batch", type=int, default=16, help="studies per training step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=1024)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    table = Table(options.folder / "pieces.json")
    source, reports = read_reports()
    sides = Sides(options.batch, reports)
    table.fill("product", measure_product)
    table.fill("texts", lambda: {"source": source, "batch": options.batch, **describe_texts(sides)})
    for repeat in range(options.repeats):
        for side in SIDES:
            table.fill(f"step/{side}/{repeat}", lambda side=side: measure_step(sides, side))
        for tower in ("vit", "resnet50"):
            for way in ("published", "published, batch 16", "ours"):
                table.fill(f"films/{tower}/{way}/{repeat}", lambda tower=tower, way=way: measure_films(tower, way))
        for way in ("published", "ours"):
            table.fill(f"prompts/{way}/{repeat}", lambda way=way: measure_prompts(way))
    table.fill("gradients", lambda: compare_gradients(sides))
    for cached_rows in (0, 256, 32):
        table.fill(
            f"memory/{options.pairs}/{cached_rows}", lambda rows=cached_rows: measure_memory(options.pairs, rows)
        )
    (options.folder / "report.md").write_text(markdown(table.rows))
    print(markdown(table.rows))
    return int(training_ratio(table.rows, "same maths") < MIN_TRAINING_RATIO)


def read_reports() -> tuple[str, list[Report]]:
    """Return where reports come from, and some: real ones where open data are at hand, else drawn ones."""
    open_data = Settings().open_data
    if open_data is None:
        drawn = [drawn_study(0, index).report for index in range(NUM_STUDIES)]
        return "drawn", [Report(findings=report.findings, impression=report.impression) for report in drawn]
    with (open_data / "openi" / "reports.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["findings"] and row["impression"]]
    step = len(rows) // NUM_STUDIES
    picked = rows[: step * NUM_STUDIES : step]
    return "Open-i", [Report(findings=row["findings"], impression=row["impression"]) for row in picked]


if __name__ == "__main__":
    raise SystemExit(main())
