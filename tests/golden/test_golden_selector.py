"""Twenty training steps of a small selector on fixed pictures give the recorded losses (CPU, float32)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from crrg.config.models import SelectorArchitecture
from crrg.config.training import LoopConfig, SelectorTraining
from crrg.device import seed_everything
from crrg.domain.labels import NUM_LABELS
from crrg.domain.regions import NUM_REGIONS
from crrg.models.region_heads import RegionSelector
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder
from crrg.training.loop import fit
from crrg.training.selector import RegionBatch, selector_loss
from tests.support.loss_recorder import LossRecorder
from tests.support.random_stages import boxes

RECORDED: dict[str, list[float]] = {
    "selection": [1.4556, 1.34337, 1.33352, 1.27895],
    "abnormal": [1.98533, 1.86233, 1.77313, 1.87686],
    "findings": [4.49443, 4.34848, 4.27589, 4.26151],
    "study": [1.38757, 1.40244, 1.41258, 1.38933],
}
"""Means of five steps each."""
SETTINGS = SelectorTraining(
    architecture=SelectorArchitecture(input_size=64, width=8, detail_channels=8, feature_size=16, dropout=0.0),
    loop=LoopConfig(num_steps=20, batch_size=4, learning_rate=3e-3, log_every=5),
)


def batch(step: int) -> RegionBatch:
    """Noise in which a region that deserves a sentence is bright, and one with a finding brighter."""
    rng = np.random.default_rng(step)
    places = boxes(4)
    images = rng.integers(0, 60, (4, 1, 64, 64), dtype=np.uint8)
    kinds = rng.integers(0, 3, (4, NUM_REGIONS))
    findings = np.zeros((4, NUM_REGIONS, NUM_LABELS), dtype=np.float32)
    for film, region in np.argwhere(kinds > 0).tolist():
        x1, y1, x2, y2 = places[film, region].int().tolist()
        shown = images[film, 0, y1:y2, x1:x2]
        np.maximum(shown, np.uint8(90 * kinds[film, region]), out=shown)
        findings[film, region, region % NUM_LABELS] = kinds[film, region] == 2
    selection = np.where(rng.random(kinds.shape) < 0.1, np.nan, kinds > 0).astype(np.float32)
    targets = (selection, (kinds == 2).astype(np.float32), findings, findings.max(axis=1))
    return RegionBatch(torch.from_numpy(images), places, *(torch.from_numpy(array) for array in targets))


def test_twenty_steps_give_the_recorded_losses(tmp_path: Path) -> None:
    seed_everything(11)
    model = RegionSelector(SETTINGS.architecture)
    folder, recorder = StageFolder(Storage(str(tmp_path)), "selector", "golden"), LossRecorder()
    fit(
        model, batch, selector_loss(model, SETTINGS), SETTINGS.loop,
        device=torch.device("cpu"), folder=folder, tracker=recorder,
    )  # fmt: skip
    for name, recorded in RECORDED.items():
        found = [row[f"train/{name}"] for row in recorder.rows.values()]
        assert found == pytest.approx(recorded, rel=2e-3), f"{name}: {[round(value, 5) for value in found]}"
    assert recorder.losses[20] < recorder.losses[5]
