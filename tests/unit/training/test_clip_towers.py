"""Every tower and projection learns in the CLIP stage, at tiny sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from crrg.config.models import ClipArchitecture
from crrg.config.training import ClipTraining, LoopConfig
from crrg.data.dataset.batches import FilmTable
from crrg.domain.report import Report
from crrg.models.clip import ClipModel
from crrg.training.clip import clip_loss, train_clip_tokenizer
from crrg.training.clip_batches import ClipBatches

REPORTS = ("Small left pleural effusion.", "The heart is enlarged. No effusion.", "Normal.", "Left rib fracture.")
IMAGENET = {"pixel_mean": (0.485, 0.456, 0.406), "pixel_std": (0.229, 0.224, 0.225)}
SWIN = {"image_tower": "swin", "image_width": 8, "image_layers": (1, 2), "image_heads": (1, 2), "window_size": 4}
VIT = {"image_tower": "vit", "image_width": 16, "image_layers": (2,), "image_heads": (2,), "patch_size": 8}
TOWERS: dict[str, dict[str, Any]] = {
    "small": {},
    "resnet50 of three channels": {"image_tower": "resnet50", "input_size": 64, **IMAGENET},
    "swin": SWIN,
    "swin by its first place": {**SWIN, "image_pooling": "token0"},
    "vit": VIT,
    "vit and clip's text tower": {**VIT, "text_tower": "clip", "projection_bias": False},
    "mlp projection": {"projection": "mlp", "text_positions": 48, "text_types": 2},
    "feature without evidence": {"projects_evidence": False},
    "linear label head": {**VIT, "label_head": "linear"},
}


def architecture(**changes: object) -> ClipArchitecture:
    small = {
        "input_size": 32, "image_width": 4, "text_layers": 1, "text_heads": 2, "text_hidden_size": 16,
        "text_vocab_size": 500, "max_text_length": 24, "projection_size": 8, "head_dropout": 0.0,
    }  # fmt: skip
    return ClipArchitecture.model_validate({**small, **changes})


def film_table(size: int) -> FilmTable:
    num = len(REPORTS)
    boxes = np.full((num, 29, 4), np.nan, dtype=np.float32)
    boxes[:, 14] = (8, 8, 20, 20)
    return FilmTable(
        images=np.random.default_rng(0).integers(0, 256, (num, size, size), dtype=np.uint8),
        original_sizes=np.full((num, 2), size, dtype=np.int32),
        input_boxes_xyxy=boxes,
        phrases=[{"left costophrenic angle": text} for text in REPORTS],
        is_abnormal=np.zeros((num, 29), dtype=np.int8),
        labels=np.eye(num, 14, dtype=np.int8),
        reports=list(REPORTS),
        texts=[Report(findings=text) for text in REPORTS],
        patient_ids=list("abcd"),
        instance_ids=list("ABCD"),
    )


@pytest.mark.parametrize("changes", TOWERS.values(), ids=TOWERS)
def test_a_few_steps_move_every_part_and_lower_the_loss(changes: dict[str, Any]) -> None:
    training = ClipTraining(architecture=architecture(**changes), loop=LoopConfig(batch_size=4))
    films = film_table(training.architecture.input_size)
    torch.manual_seed(0)
    model = ClipModel(training.architecture)
    batch = ClipBatches(films, train_clip_tokenizer(list(REPORTS), 500), training, seed=0).make(0)
    loss_of = clip_loss(model, films, training, torch.device("cpu"))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(4):
        loss, _ = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    still = {name for name, value in model.named_parameters() if torch.equal(value, before[name])}
    # a key's bias changes no attention
    assert all("k_proj.bias" in name or "key.bias" in name for name in still), still
    reading = model.eval().read_films(batch.images)
    assert reading.image_features.shape == (4, 8)
    assert reading.label_logits.shape == (4, 14)
    assert reading.cell_logits.shape[:2] == (4, 14)


def test_a_place_of_the_map_is_that_place_of_the_film() -> None:
    torch.manual_seed(0)
    for changes in (SWIN, VIT):
        tower = ClipModel(architecture(**changes, input_size=64)).eval().image_tower
        film = torch.zeros(1, 1, 64, 64)
        changed = film.clone()
        changed[..., 40:64, 0:24] = 1.0
        difference = (tower(changed).cells - tower(film).cells).abs().sum(dim=1)[0]
        rows, columns = (difference == difference.amax()).nonzero()[0].tolist()
        assert rows >= difference.shape[0] // 2
        assert columns < difference.shape[1] // 2


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pixel_mean": (0.5, 0.5, 0.5)}, "one value each, or three"),
        (IMAGENET, "takes one pixel_mean"),
        ({**VIT, "image_layers": (1, 1)}, "the same length"),
        ({**VIT, "patch_size": 5}, "patch_size must divide"),
        ({**SWIN, "image_heads": (3, 2)}, "image_heads must divide"),
        ({"text_heads": 3}, "text_heads must divide"),
        ({"text_positions": 8}, "shorter than max_text_length"),
        ({"num_labels": 0}, "num_labels is 0"),
        ({"num_labels": 0, "label_head": "none"}, "no evidence"),
        ({"label_head": "linear"}, "not `conv`"),
    ],
)
def test_sizes_that_no_network_can_have_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        architecture(**changes)
