"""Every tower and projection learns in the CLIP stage, at tiny sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from crrg.config.training import ClipTraining, LoopConfig
from crrg.models.clip import ClipModel
from crrg.training.clip import clip_loss, train_clip_tokenizer
from crrg.training.clip_batches import ClipBatches
from tests.support.small_clip import REPORTS, clip_architecture, film_table

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


@pytest.mark.parametrize("changes", TOWERS.values(), ids=TOWERS)
def test_a_few_steps_move_every_part_and_lower_the_loss(changes: dict[str, Any]) -> None:
    training = ClipTraining(architecture=clip_architecture(**changes), loop=LoopConfig(batch_size=4))
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
        tower = ClipModel(clip_architecture(**changes, input_size=64)).eval().image_tower
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
        clip_architecture(**changes)
