"""Twenty training steps of a small detector on fixed pictures give the recorded losses (CPU, float32)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from crrg.config.models import DetectorArchitecture
from crrg.config.training import LoopConfig
from crrg.device import seed_everything
from crrg.models.detector import RegionDetector
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder
from crrg.training.detector import DetectorBatch, detector_loss
from crrg.training.loop import fit
from tests.support.loss_recorder import LossRecorder

RECORDED = {1: 5.34709, 5: 5.14438, 10: 4.84791, 15: 4.70134, 20: 4.59096}
ARCHITECTURE = DetectorArchitecture(
    input_size=64, width=8, anchor_sizes=(8, 16, 32), anchor_ratios=(0.5, 1.0, 2.0), num_proposals=16,
    num_training_rois=32, representation_size=32, roi_channels=8,
)  # fmt: skip
LOOP = LoopConfig(num_steps=20, batch_size=4, learning_rate=1e-3, log_every=1)


def batch(step: int) -> DetectorBatch:
    """Films with 29 rectangles of different grey, shifted as a whole."""
    rng = np.random.default_rng(step)
    images = np.full((4, 1, 64, 64), 30, dtype=np.uint8)
    boxes = np.zeros((4, 29, 4), dtype=np.float32)
    for film in range(4):
        shift = rng.integers(0, 6, 2)
        for region in range(29):
            x, y = 9 * (region % 6) + shift[0], 11 * (region // 6) + shift[1]
            width, height = 6 + region % 4, 5 + region % 5
            images[film, 0, y : y + height, x : x + width] = 60 + 6 * region
            boxes[film, region] = x, y, min(64, x + width), min(64, y + height)
    return DetectorBatch(torch.from_numpy(images), torch.from_numpy(boxes))


def test_twenty_steps_give_the_recorded_losses(tmp_path: Path) -> None:
    seed_everything(11)
    model = RegionDetector(ARCHITECTURE)
    model.fit_regions(batch(1000).boxes / 64)
    folder, recorder = StageFolder(Storage(str(tmp_path)), "detector", "golden"), LossRecorder()
    fit(model, batch, detector_loss(model), LOOP, device=torch.device("cpu"), folder=folder, tracker=recorder)
    losses = recorder.losses
    assert losses[1] == pytest.approx(RECORDED[1], abs=1e-4)
    # another order of sums in a convolution moves proposals, and with them later losses, by some thousandths
    assert {step: losses[step] for step in RECORDED} == pytest.approx(RECORDED, abs=1e-2), losses
