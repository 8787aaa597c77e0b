"""Fit the constants of ``crrg.data.atlas`` on drawn anatomy and score them on other drawings.

Every edge of a region is a weighted mean of the edges of the two lungs (and of the heart, where a region hangs on it)
along the same axis: weights sum to 1, so the rule moves and grows with the film. Least squares over the boxes of drawn
films, drawn towards equal weights a little so that none becomes extreme. No film is painted: it takes seconds. Run:
``python -m benchmarks.fit_atlas [--write]``; ``--write`` replaces ``crrg/data/atlas_constants.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import crrg
from crrg.data.atlas import HEART, LUNGS, atlas_boxes
from crrg.data.phantom.anatomy import build_anatomy
from crrg.data.phantom.film_frame import place_on_film
from crrg.data.phantom.region_geometry import region_boxes
from crrg.data.phantom.sampler import sample_scene
from crrg.domain.boxes import box_iou
from crrg.domain.regions import REGION_INDEX, REGIONS

FIT_SEED, SCORE_SEED = 20261123, 20261124
SIZE = 512
RIDGE = 1e-3
"""Pull of the weights towards equal ones; edges are in film sides."""
ON_HEART = ("mediastinum", "cavoatrial junction", "right atrium")
TARGET = Path(crrg.__file__).parent / "data" / "atlas_constants.py"
FloatArray = NDArray[np.float64]
HEADER = '''"""Constants of the atlas: how the edges of each region follow from the edges of the lungs and the heart.

Per region the weights of left, upper, right and lower edge. Weights of ``LUNG_WEIGHTS`` belong to the near and far edge
of the right lung's box, then of the left lung's; ``HEART_WEIGHTS`` to these four and the two of the heart's box.

Source: least squares over {films} drawn films, seed {seed}: ``python -m benchmarks.fit_atlas --write``.
"""

from __future__ import annotations

'''


def drawn_boxes(seed: int, num_films: int) -> FloatArray:
    """Return the exact boxes ``[N, 29, 4]`` of drawn films, in film sides."""
    rows = []
    for index in range(num_films):
        scene = sample_scene(seed, index)
        anatomy = build_anatomy(scene, seed)
        boxes = region_boxes(anatomy, place_on_film(anatomy, scene, seed, SIZE)).boxes
        rows.append([boxes[region] for region in REGIONS])
    return np.array(rows) / SIZE


def fit_edge(boxes: FloatArray, region: str, edge: int, anchors: tuple[str, ...]) -> FloatArray:
    """Return the weights of the anchors' near and far edges for one edge (0..3) of a region; they sum to 1."""
    axis = edge % 2
    columns = [boxes[:, REGION_INDEX[anchor], axis + far] for anchor in anchors for far in (0, 2)]
    edges = np.stack(columns, axis=1)
    equal = np.full(edges.shape[1], 1 / edges.shape[1])
    wanted = boxes[:, REGION_INDEX[region], edge] - edges @ equal
    steps = edges[:, 1:] - edges[:, :1]
    change = np.linalg.solve(steps.T @ steps + RIDGE * np.eye(steps.shape[1]), steps.T @ wanted)
    return equal + np.concatenate([[-change.sum()], change])


def fit(boxes: FloatArray, regions: tuple[str, ...], anchors: tuple[str, ...]) -> dict[str, FloatArray]:
    return {region: np.stack([fit_edge(boxes, region, edge, anchors) for edge in range(4)]) for region in regions}


def module_text(lungs: dict[str, FloatArray], heart: dict[str, FloatArray], num_films: int) -> str:
    parts = [HEADER.format(films=num_films, seed=FIT_SEED)]
    for name, table in (("LUNG_WEIGHTS", lungs), ("HEART_WEIGHTS", heart)):
        parts.append(f"{name}: dict[str, tuple[tuple[float, ...], ...]] = {{\n")
        for region, weights in table.items():
            rounded = np.round(weights, 3)
            rounded[:, -1] = np.round(1 - rounded[:, :-1].sum(axis=1), 3)
            rows = ", ".join("(" + ", ".join(f"{value:g}" for value in row) + ")" for row in rounded.tolist())
            parts.append(f'    "{region}": ({rows}),\n')
        parts.append("}\n")
    return "".join(parts)


def score(fitted: FloatArray, scored: FloatArray) -> None:
    """Print the mean IoU of every region: atlas from lungs, from lungs and heart, and the mean box."""
    found = {}
    for name, anchors in (("lungs", LUNGS), ("lungs and heart", (*LUNGS, HEART))):
        rows = []
        for boxes in scored:
            known = {anchor: tuple(boxes[REGION_INDEX[anchor]]) for anchor in anchors}
            made = {**known, **atlas_boxes(known, (SIZE, SIZE))}
            rows.append([made.get(region, (0.0, 0.0, 0.0, 0.0)) for region in REGIONS])
        found[name] = box_iou(np.array(rows), scored).mean(axis=0)
    found["mean box"] = box_iou(np.broadcast_to(fitted.mean(axis=0), scored.shape), scored).mean(axis=0)
    print(f"| region | {' | '.join(found)} |")
    print(f"| --- |{' ---: |' * len(found)}")
    for index, region in enumerate(REGIONS):
        if region not in LUNGS:
            print(f"| {region} | {' | '.join(f'{ious[index]:.3f}' for ious in found.values())} |")
    rest = [index for index, region in enumerate(REGIONS) if region not in LUNGS]
    print(f"| mean of 27 | {' | '.join(f'{ious[rest].mean():.3f}' for ious in found.values())} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=1000)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    boxes = drawn_boxes(FIT_SEED, arguments.films)
    lungs = fit(boxes, tuple(region for region in REGIONS if region not in LUNGS), LUNGS)
    heart = fit(boxes, ON_HEART, (*LUNGS, HEART))
    if arguments.write:
        TARGET.write_text(module_text(lungs, heart, arguments.films), encoding="utf-8")
        print("constants written; run again to score them")
        return
    print(f"largest weight {max(np.abs(w).max() for w in (*lungs.values(), *heart.values())):.2f}")
    score(boxes * SIZE, drawn_boxes(SCORE_SEED, arguments.films) * SIZE)


if __name__ == "__main__":
    main()
