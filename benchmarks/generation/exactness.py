"""What both sides say of the same films at full size: regions, boxes, logits; and the machine they say it on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear

from benchmarks.generation.models import Sides
from crrg.importers.rgrg import import_rgrg
from crrg.models.backbone import normalise_films
from crrg.models.products import affine
from crrg.models.rounded import RoundedLinear

NUM_FILMS = 4


@torch.no_grad()
def compare(sides: Sides, folder: Path) -> dict[str, Any]:
    """Return the largest differences over four films, with and without ``exact_roi``, and of the stage-1 file."""
    films = sides.inputs.films[:NUM_FILMS]
    boxes, detected, features = sides.published.object_detector(normalise_films(films))
    logits = sides.published.binary_classifier_region_selection.classifier(features)[..., 0]
    abnormal = sides.published.binary_classifier_region_abnormal.classifier(features)[..., 0]
    proposals = sides.ours.detector.rpn.propose([sides.ours.detector.backbone(normalise_films(films))], films.shape[-1])
    found: dict[str, Any] = {
        "detected": detected.sum(dim=1).tolist(),
        "selected": (detected & (logits > -1)).sum(dim=1).tolist(),
        "proposals": [len(rows) for rows in proposals],
        "import_s": sides.ours.import_s,
    }
    for name, is_exact in (("map", False), ("exact_roi", True)):
        sides.ours.detector.exact_roi = is_exact
        ours = sides.ours.detector.detect(films)
        judged = sides.ours.selector(ours.region_features)
        found[name] = {
            "same_regions": bool(torch.equal(ours.detected, detected)),
            "same_selection": bool(torch.equal(judged.selection_logits[detected] > -1, logits[detected] > -1)),
            "boxes_px": float((ours.input_boxes_xyxy - boxes)[detected].abs().max()),
            "selection_logits": float((judged.selection_logits - logits)[detected].abs().max()),
            "abnormal_logits": float((judged.abnormal_logits - abnormal)[detected].abs().max()),
        }
    sides.ours.detector.exact_roi = False
    ids = torch.randint(0, 50257, (1, 24), generator=torch.Generator().manual_seed(1))
    condition = sides.ours.generator.encode_condition(features[0, :1], torch.zeros(1).long(), torch.zeros(1, 15))
    wanted = sides.published.language_model(ids[0], features[0, 0])
    found["word_logits"] = float((sides.ours.generator(ids, condition)[0] - wanted).abs().max())
    found["stage_1_file"] = _stage_1(sides, folder)
    return found


def _stage_1(sides: Sides, folder: Path) -> dict[str, Any]:
    """Import the detector's own file; say whether its weights are those of the full model."""
    file = folder / "detector.pth"
    torch.save(sides.published.object_detector.state_dict(), file)
    start = time.perf_counter()
    (stage,) = import_rgrg(file)
    seconds = time.perf_counter() - start
    file.unlink()
    own = sides.ours.detector.state_dict()
    same = all(torch.equal(tensor, own[name]) for name, tensor in stage.module.state_dict().items())
    return {"import_s": seconds, "same_weights": same, "num_tensors": len(stage.key_report["taken"])}


@torch.no_grad()
def floor() -> dict[str, float]:
    """Return what one thread of the machine reaches.

    GFLOP/s of the faster float32 product and of one in 8 bits, roundings included; GB/s of copying and reading.
    """
    rates = {"gemm_640": _product_rate(640, 1024, 4096), "gemm_2048": _product_rate(2048, 2048, 2048)}
    rates |= {"int8_640": _rounded_rate(640, 1024, 4096), "int8_2048": _rounded_rate(2048, 2048, 2048)}
    source, target = torch.zeros(2**27), torch.zeros(2**27)
    rates["copy_gb_s"] = 4 * 2**27 / _best(lambda: target.copy_(source)) / 1e9
    rates["read_gb_s"] = 4 * 2**27 / _best(lambda: source.sum()) / 1e9
    return rates


@torch.inference_mode()
def _product_rate(rows: int, depth: int, width: int) -> float:
    left, right = torch.randn(rows, depth), torch.randn(width, depth)
    seconds = min(_best(lambda: linear(left, right)), _best(lambda: affine(left, right)))
    return 2 * rows * depth * width / seconds / 1e9


@torch.inference_mode()
def _rounded_rate(rows: int, depth: int, width: int) -> float:
    inputs, layer = torch.randn(rows, depth), RoundedLinear(torch.randn(width, depth), None)
    return 2 * rows * depth * width / _best(lambda: layer(inputs)) / 1e9


def _best(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(7):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)
