"""A small detector that draws nothing by chance, and films for it that are annotated unequally."""

from __future__ import annotations

import torch

from crrg.config.models import DetectorArchitecture
from crrg.models.detector import RegionDetector
from crrg.training.detector import DetectorBatch


def detector_that_keeps_all() -> RegionDetector:
    """Return a detector of which every anchor and every proposal is kept, so that nothing is drawn by chance."""
    sizes = DetectorArchitecture(
        input_size=32, width=4, anchor_sizes=(12,), anchor_ratios=(0.7, 1.4), roi_channels=8, representation_size=16,
        num_proposals=40, num_training_rois=2000, positive_share=0.9, added_boxes="truth",
    )  # fmt: skip
    torch.manual_seed(0)
    model = RegionDetector(sizes).train()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()
    return model


def film_batch(*num_annotated: int) -> DetectorBatch:
    """Return a film of noise for each number given: so many of its regions have a box."""
    generator = torch.Generator().manual_seed(sum(num_annotated))
    images = torch.randint(0, 256, (len(num_annotated), 1, 32, 32), dtype=torch.uint8, generator=generator)
    corners = torch.rand(len(num_annotated), 29, 2, generator=generator) * 18
    boxes = torch.cat([corners, corners + 4 + 9 * torch.rand(corners.shape, generator=generator)], dim=-1)
    for row, number in enumerate(num_annotated):
        boxes[row, number:] = torch.nan
    return DetectorBatch(images, boxes)
