"""What a detector's scores say of regions that a film does not show, before and after calibration.

Run: ``python -m benchmarks.visibility --root ROOT``. The root must hold a bundle and the dataset ``demo``, as ``make
demo`` makes them. The curves are fitted as training does, on validation films whole and cut, and scored on a drawn
cohort of another seed, cut in other places.
"""

from __future__ import annotations

import argparse
import logging

import torch

from benchmarks.classification.cohorts import draw_cohort
from benchmarks.roots import find_bundle
from crrg.data.dataset.batches import load_films
from crrg.data.dataset.pairs import resolve_dataset
from crrg.domain.study import Split
from crrg.evaluation.scorecard import Scorecard
from crrg.inference.visibility import Visibility
from crrg.models.detector import load_detector
from crrg.operations.scoring.visibility import SEED, visibility_figures
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage
from crrg.training.detector import detect_films, visibility_record
from crrg.training.visibility import visibility_cases

DATASET = "visibility-drawn"
CPU = torch.device("cpu")


def main() -> None:
    """Fit, score and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--bundle", default="", help="bundle id; empty takes the champion, else the newest")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20_261_128)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    storage = Storage(options.root)
    bundle = read_bundle(storage, find_bundle(storage, options.bundle))
    detector = load_detector(bundle.spec["stages"]["detector"], bundle.files["detector.safetensors"], CPU)
    size = detector.architecture.input_size
    known = load_films(storage, resolve_dataset(storage, "demo"), Split.VALIDATION, size)
    visibility = Visibility.from_config(visibility_record(detector, known, CPU, 0))
    if visibility is None:
        raise SystemExit("no validation film of the dataset demo has boxes")
    name = f"{DATASET}-{options.seed}-{options.studies}"
    draw_cohort(storage, name, False, options.studies, options.seed)
    films = load_films(storage, resolve_dataset(storage, name), Split.TEST, size)
    cases = visibility_cases(films, lambda images: detect_films(detector, images, CPU).scores.numpy(), SEED)
    figures = visibility_figures(visibility, cases, detector.architecture.score_threshold)
    missing = int((cases.visible == 0).sum())
    print(f"{len(films)} films whole and cut, {missing} regions not visible; threshold {visibility.threshold:.3f}")
    print(Scorecard(tuple(figures), len(films)).to_markdown())


if __name__ == "__main__":
    main()
