"""Twenty steps of the CLIP stage on drawn noise films: the losses are what they were.

The recorded values hold for float32 on a CPU with one thread; the tolerance covers other processors' arithmetic. Record
them anew, and say why in the changelog, when the stage is meant to train differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from crrg.config.models import ClipArchitecture
from crrg.config.training import ClipTraining, LoopConfig
from crrg.data.dataset.batches import FilmTable
from crrg.domain.labels import FINDINGS, LABEL_INDEX, NUM_LABELS
from crrg.domain.regions import REGION_INDEX
from crrg.domain.report import Report
from crrg.models.clip import ClipModel
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder
from crrg.training.clip import clip_loss, train_clip_tokenizer
from crrg.training.clip_batches import ClipBatches
from crrg.training.loop import fit
from tests.support.loss_recorder import LossRecorder

RECORDED: dict[str, list[float]] = {
    "loss": [2.08663, 1.60716, 1.36528, 1.28092],
    "contrastive": [2.5214, 2.18729, 2.11932, 2.09428],
    "prompt": [1.1357, 0.7375, 0.59887, 0.55067],
    "label": [0.35435, 0.23626, 0.17985, 0.16355],
    "place": [0.33362, 0.26198, 0.21393, 0.19613],
}

NUM_FILMS = 24


def drawn_films() -> FilmTable:
    """Noise with a bright square where the finding is; the finding decides the report."""
    rng = np.random.default_rng(0)
    images = rng.integers(40, 90, (NUM_FILMS, 64, 64), dtype=np.uint8)
    boxes = np.full((NUM_FILMS, 29, 4), np.nan, dtype=np.float32)
    labels = np.zeros((NUM_FILMS, NUM_LABELS), dtype=np.int8)
    texts, phrases = [], []
    for row in range(NUM_FILMS):
        x, y = (int(value) for value in rng.integers(0, 40, 2))
        name = FINDINGS[row % 4]
        images[row, y : y + 16, x : x + 16] += np.uint8(40 * (row % 4 + 1))
        boxes[row, REGION_INDEX["left lung"]] = (x, y, x + 16, y + 16)
        labels[row, LABEL_INDEX[name]] = 1
        texts.append(Report(findings=f"There is {name.lower()}. Film {row}."))
        phrases.append({"left lung": f"There is {name.lower()}."})
    return FilmTable(
        images=images, original_sizes=np.full((NUM_FILMS, 2), 64, dtype=np.int32), input_boxes_xyxy=boxes,
        phrases=phrases, is_abnormal=np.zeros((NUM_FILMS, 29), dtype=np.int8), labels=labels,
        reports=[text.text for text in texts], texts=texts,
        patient_ids=[str(row) for row in range(NUM_FILMS)], instance_ids=[str(row) for row in range(NUM_FILMS)],
    )  # fmt: skip


def train(folder: Path) -> list[Mapping[str, float]]:
    training = ClipTraining(
        architecture=ClipArchitecture(
            input_size=64, image_width=8, text_layers=1, text_heads=2, text_hidden_size=32, text_vocab_size=500,
            max_text_length=24, projection_size=16, head_dropout=0.0,
        ),
        loop=LoopConfig(num_steps=20, batch_size=8, learning_rate=3e-3, log_every=5),
    )  # fmt: skip
    films = drawn_films()
    tokenizer = train_clip_tokenizer([report.text for report in films.texts], 500)
    torch.manual_seed(0)
    model = ClipModel(training.architecture)
    tracker = LossRecorder()
    fit(
        model,
        ClipBatches(films, tokenizer, training, seed=0).make,
        clip_loss(model, films, training, torch.device("cpu")),
        training.loop,
        device=torch.device("cpu"),
        folder=StageFolder(Storage(str(folder)), "clip", "golden"),
        tracker=tracker,
    )
    return list(tracker.rows.values())


def test_twenty_steps_give_the_recorded_losses(tmp_path: Path) -> None:
    rows = train(tmp_path)
    for name, recorded in RECORDED.items():
        found = [row[f"train/{name}"] for row in rows]
        assert found == pytest.approx(recorded, rel=2e-3), f"{name}: {[round(value, 5) for value in found]}"
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
