"""How hard the drawn cohort is, on 2,000 films, with bootstrap intervals over patients' films.

Run: ``python -m benchmarks.phantom_difficulty [--studies 2000] [--size 128] [--seed 17]``. Prints one line per measure
beside its bound and ends with status 1 if one is missed.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np

from crrg.data.phantom.difficulty import FilmSample, exposure_auc, mean_box_iou, mild_share, paint_sample, thumbnail_auc
from crrg.data.phantom.sampler import STUDIES_PER_BLOCK

NUM_RESAMPLES = 200


def interval(values: list[float]) -> str:
    low, high = np.percentile(values, [2.5, 97.5])
    return f"[{low:.3f}, {high:.3f}]"


def resampled(films: FilmSample, rng: np.random.Generator) -> FilmSample:
    """Return films drawn with replacement, blocks of studies together, so that patients stay whole."""
    num_blocks = len(films.scenes) // STUDIES_PER_BLOCK
    starts = rng.integers(0, num_blocks, num_blocks) * STUDIES_PER_BLOCK
    rows = (starts[:, None] + np.arange(STUDIES_PER_BLOCK)).reshape(-1)
    scenes = tuple(films.scenes[i] for i in rows)
    return FilmSample(scenes, films.thumbnails[rows], films.boxes[rows], films.labels[rows], films.exposure[rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    begin = time.process_time()
    films = paint_sample(options.seed, range(options.studies), options.size)
    spent_ms = (time.process_time() - begin) / options.studies * 1000
    print(f"painting at {options.size} px: {spent_ms:.1f} ms CPU per film")
    half = options.studies // 2 // STUDIES_PER_BLOCK * STUDIES_PER_BLOCK
    train, test = films.part(slice(0, half)), films.part(slice(half, None))
    rng = np.random.default_rng(0)
    overlaps = [float(mean_box_iou(train, resampled(test, rng)).mean()) for _ in range(NUM_RESAMPLES)]
    results = [("mean-box IoU", float(mean_box_iou(train, test).mean()), interval(overlaps), 0.60)]
    for name, bound, method in (("32x32 logistic AUC", 0.75, thumbnail_auc), ("exposure AUC", 0.55, exposure_auc)):
        scores = method(train, test)
        spread = [float(np.mean(list(method(train, resampled(test, rng)).values()))) for _ in range(20)]
        results.append((name, float(np.mean(list(scores.values()))), interval(spread), bound))
        print(name, {label: round(score, 3) for label, score in scores.items()})
    for name, value, span, bound in results:
        print(f"{name}: {value:.3f} {span}, bound <= {bound:.2f}: {'kept' if value <= bound else 'MISSED'}")
    share = mild_share(films.scenes)
    print(f"mild share: {share:.3f}, bound >= 0.333: {'kept' if share >= 1 / 3 else 'MISSED'}")
    return int(share < 1 / 3 or any(value > bound for _, value, _, bound in results))


if __name__ == "__main__":
    raise SystemExit(main())
