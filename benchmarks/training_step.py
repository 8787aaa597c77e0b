"""Time of a training step on a CPU, beside the same step done torchvision's way: `python -m benchmarks.training_step`.

The detector of a preset on drawn boxes. Torchvision's way decodes and compares all anchors, cuts every proposal out,
spreads the gradient of cut-outs cell by cell, and keeps the channels of a film apart in its first convolution. Both
sides start from the same weights and random numbers, take turns, and must agree on the loss of the first step.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import roi_align

from crrg.config.presets import stage_training
from crrg.data.phantom.difficulty import paint_sample
from crrg.models import backbone, box_head
from crrg.models.detector import RegionDetector
from crrg.models.proposals import ProposalNetwork
from crrg.training.detector import DetectorBatch, detector_loss

SAME_LOSS = 1e-3


@dataclass(frozen=True)
class Step:
    """Seconds and loss of one step; beside other work on the machine the processor's seconds are the surer ones."""

    wall_s: float
    cpu_s: float
    loss: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=("tiny", "small", "base"), default="small")
    parser.add_argument("--recipe", choices=("crrg", "paper"), default="crrg")
    parser.add_argument("--batch-size", type=int, default=0, help="films per step; 0 = the preset's")
    parser.add_argument("--steps", type=int, default=3, help="steps per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0 = as many as torch takes")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = stage_training(options.preset, options.recipe).detector
    batch_size = options.batch_size or settings.loop.batch_size
    films, boxes = drawn_batch(batch_size, settings.architecture.input_size)
    steps: dict[str, list[Step]] = {"ours": [], "torchvision's": []}
    losses: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, way in (("ours", contextlib.nullcontext()), ("torchvision's", torchvisions_way())):
            torch.manual_seed(0)
            model = RegionDetector(settings.architecture).train()
            model.fit_regions(boxes / settings.architecture.input_size)
            with way:
                found = [take_step(model, films, boxes) for _ in range(1 + options.steps)]
            losses[name] = found[0].loss
            steps[name] += found[1:]
    if abs(losses["ours"] - losses["torchvision's"]) > SAME_LOSS:
        raise RuntimeError(f"the two ways do not compute the same: losses {losses}")
    print(f"detector `{options.preset}` ({options.recipe}), batch of {batch_size}, {torch.get_num_threads()} threads:")
    for clock in ("cpu_s", "wall_s"):
        own, other = (min(getattr(step, clock) for step in each) for each in steps.values())
        print(f"  {clock}: {own:.2f} a step, torchvision's way {other:.2f} ({other / own:.2f} times)")
    return 0


def drawn_batch(number: int, size: int) -> tuple[Tensor, Tensor]:
    """Return films ``[B, 1, S, S]`` of noise, as costly as any, and boxes ``[B, 29, 4]`` of drawn studies."""
    boxes = size * paint_sample(0, range(number), size).boxes
    films = np.random.default_rng(0).integers(0, 256, (number, 1, size, size), dtype=np.uint8)
    return torch.from_numpy(films), torch.from_numpy(boxes.astype(np.float32))


def take_step(model: RegionDetector, films: Tensor, boxes: Tensor) -> Step:
    """Take one step without the optimizer."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    loss, _ = detector_loss(model)(DetectorBatch(films, boxes))
    model.zero_grad()
    loss.backward()
    return Step(time.perf_counter() - wall_s, time.process_time() - cpu_s, loss.item())


@contextlib.contextmanager
def torchvisions_way() -> Iterator[None]:
    """Compute with torchvision's own proposal step and RoIAlign, and films as they lie, until the end."""

    def propose_and_compare(
        network: ProposalNetwork, levels: Sequence[Tensor], size: int, boxes: Sequence[Tensor], _is_complete: Tensor
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        images = ImageList(levels[0].new_empty(len(boxes), 1, size, size), [(size, size)] * len(boxes))
        rows = [{"boxes": own} for own in boxes]
        named = {str(number): features for number, features in enumerate(levels)}
        return RegionProposalNetwork.forward(network, images, named, rows)

    def cut_out(features: Tensor, boxes: Sequence[Tensor], num_bins: int, scale: float, num_samples: int) -> Tensor:
        return roi_align(features, list(boxes), num_bins, scale, num_samples)

    with (
        mock.patch.object(ProposalNetwork, "propose_and_compare", propose_and_compare),
        mock.patch.object(box_head, "cut_out", cut_out),
        mock.patch.object(box_head, "is_map_cheaper_to_train", return_value=False),
        mock.patch.object(backbone, "channels_last", lambda images: images),
    ):
        yield


if __name__ == "__main__":
    sys.exit(main())
