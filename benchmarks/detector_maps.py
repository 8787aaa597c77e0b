"""One map or a feature pyramid, for the detector alone: `python -m benchmarks.detector_maps --root ROOT`.

The whole comparison (``benchmarks.quality_generation --variants other-maps``) trains selectors and generators as well,
which a larger preset makes too long. Here a detector of the preset and one with its other maps, at about as many
parameters, learn on the films of a dataset until the same CPU seconds are used up, seed by seed in turn; all are
measured on the test films. Finished trainings are kept in ``ROOT/detector_maps``.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.generation_quality.budget import CPU, Limit
from benchmarks.generation_quality.contenders import Films, Order, Ours, Parts
from benchmarks.generation_quality.matching import num_parameters
from benchmarks.generation_quality.provenance import training_within_budget
from benchmarks.generation_quality.variants import with_other_maps
from benchmarks.resumable import table_of
from benchmarks.resumable.identity import libraries, processor
from crrg.config.base import Preset
from crrg.config.presets import preset_training
from crrg.config.training import PresetTraining
from crrg.data.dataset.pairs import resolve_dataset
from crrg.domain.study import Split
from crrg.storage import Storage
from crrg.training.detector import detect_films, detection_metrics

DATASET = "demo"
FIGURES = ("detection/mean_iou", "detection/worst_region_iou", "detection/detected_share")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="of a `make demo` or `make quality`")
    parser.add_argument("--preset", choices=get_args(Preset), default="small")
    parser.add_argument("--budget", type=float, default=1300, help="CPU seconds of each training")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    folder = Path(options.root, "detector_maps")
    folder.mkdir(exist_ok=True)
    table = table_of(folder, {"processor": processor(), "libraries": libraries(), "code": training_within_budget()})
    storage = Storage(options.root)
    dataset = resolve_dataset(storage, DATASET)
    ours = preset_training(options.preset)
    films = Films(storage, dataset, ours.generator.architecture.vocab_size)
    prefix = f"{options.preset}/{dataset.version}/{options.budget:g}"
    for seed in range(options.seeds):
        for training in (ours, with_other_maps(ours)):
            name = maps_of(training)
            table.fill(
                f"{prefix}/{name}/{seed}",
                lambda training=training, seed=seed: trained(training, films, seed, options.budget),
            )
    for training in (ours, with_other_maps(ours)):
        name = maps_of(training)
        rows = [row for key, row in table.rows.items() if key.startswith(f"{prefix}/{name}/")]
        figures = ", ".join(f"{each} {spread([row[each] for row in rows])}" for each in (*FIGURES, "ms_per_film"))
        size, steps = f"{rows[0]['parameters']:,} parameters", spread([row["steps"] for row in rows])
        print(f"{name} ({size}, {steps} steps): {figures}")


def maps_of(training: PresetTraining) -> str:
    """Return what the maps of a preset's detector are called here."""
    return "pyramid" if training.detector.architecture.pyramid_channels else "one map"


def trained(training: PresetTraining, films: Films, seed: int, budget_s: float) -> dict[str, Any]:
    """Train one detector and measure it, its time per film included (batches of 16, all threads)."""
    order = Order(training.detector.loop.learning_rate, seed, Limit(cpu_s=budget_s))
    parts, effort = Ours(training).train("detector", Parts(), films, order)
    assert parts.detector is not None
    table = films.of(Split.TEST, training.detector.architecture.input_size)
    with torch.inference_mode():
        detect_films(parts.detector, table.images[:16], CPU)
        start = time.process_time()
        detect_films(parts.detector, table.images[:64], CPU)
    seconds = time.process_time() - start
    measured = detection_metrics(parts.detector, table, CPU)
    return {
        "parameters": num_parameters(training.detector.architecture),
        "steps": effort.num_steps,
        "cpu_s": round(effort.cpu_s, 1),
        "ms_per_film": 1000 * seconds / len(table.images[:64]),
        **{name: measured[name] for name in FIGURES},
    }


def spread(values: list[float]) -> str:
    """Return the mean, and of several values all of them."""
    each = f" ({', '.join(f'{value:.4g}' for value in values)})" if len(values) > 1 else ""
    return f"{np.mean(values):.4g}{each}"


if __name__ == "__main__":
    main()
