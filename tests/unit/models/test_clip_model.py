"""Shapes, invariances and loading of the CLIP network."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import save

from crrg.config.models import ClipArchitecture
from crrg.errors import ModelError
from crrg.models.clip import ClipModel, load_clip
from crrg.models.clip_heads import pool_cells
from crrg.models.towers import ResNet50Tower

SMALL = ClipArchitecture(
    input_size=32, image_width=4, text_layers=1, text_heads=2, text_hidden_size=16, text_vocab_size=300,
    max_text_length=12, projection_size=8,
)  # fmt: skip


@pytest.fixture
def model() -> ClipModel:
    torch.manual_seed(0)
    return ClipModel(SMALL).eval()


def films(num: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (num, 1, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_features_have_length_one_and_logits_one_column_per_label(model: ClipModel) -> None:
    reading = model.read_films(films())
    assert reading.image_features.shape == (3, 8)
    torch.testing.assert_close(reading.image_features.norm(dim=1), torch.ones(3))
    assert reading.label_logits.shape == (3, 14)
    assert reading.cell_logits.shape == (3, 14, 4, 4)
    assert torch.equal(model.label_logits(films()), reading.label_logits)
    assert torch.equal(model.encode_image(films()), reading.image_features)


def test_bytes_and_floats_of_a_film_are_the_same_film(model: ClipModel) -> None:
    torch.testing.assert_close(model.label_logits(films()), model.label_logits(films().float()))


def test_a_text_does_not_depend_on_its_padding(model: ClipModel) -> None:
    token_ids = torch.tensor([[5, 6, 7, 0, 9, 9], [5, 6, 7, 8, 9, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    both = model.encode_text(token_ids, mask)
    alone = model.encode_text(token_ids[:1, :4], mask[:1, :4])
    torch.testing.assert_close(both[:1], alone, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(both[0], both[1])


def test_groups_of_similar_length_change_nothing(model: ClipModel) -> None:
    lengths = torch.tensor([3, 9, 1, 5, 12, 2, 7])
    mask = (torch.arange(12)[None] < lengths[:, None]).long()
    token_ids = torch.randint(0, 300, (7, 12), generator=torch.Generator().manual_seed(2))
    plain = model.encode_text(token_ids, mask)
    grouped = model.train().encode_text(token_ids, mask)
    torch.testing.assert_close(plain, grouped, atol=1e-6, rtol=1e-5)


def test_the_temperature_is_clamped(model: ClipModel) -> None:
    assert model.scale.item() == pytest.approx(1 / 0.07, rel=1e-5)
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    assert model.scale.item() == pytest.approx(100.0, rel=1e-5)


def test_pooled_cells_are_the_log_of_summed_odds() -> None:
    cells = torch.tensor([[[[0.0, math.log(3.0)], [-1.0, -2.0]]]])
    assert pool_cells(cells[..., :1, :]).item() == pytest.approx(math.log(4.0))
    counted = torch.tensor([[[[False, True], [False, False]]]])
    assert pool_cells(cells, counted).item() == pytest.approx(math.log(3.0), abs=1e-5)
    assert pool_cells(cells, torch.zeros_like(counted)).item() < -20


def test_weights_survive_the_store(model: ClipModel) -> None:
    data = save(model.state_dict())
    again = load_clip({"architecture": SMALL.model_dump(mode="json")}, data, torch.device("cpu"))
    assert not again.training
    assert torch.equal(again.label_logits(films()), model.label_logits(films()))


def test_foreign_weights_and_settings_are_refused(model: ClipModel) -> None:
    wider = SMALL.model_copy(update={"projection_size": 16}).model_dump(mode="json")
    with pytest.raises(ModelError, match="do not fit"):
        load_clip({"architecture": wider}, save(model.state_dict()), torch.device("cpu"))
    with pytest.raises(ModelError, match="architecture"):
        load_clip({}, b"", torch.device("cpu"))
    with pytest.raises(ModelError, match="do not fit"):
        load_clip({"architecture": SMALL.model_dump()}, b"not safetensors", torch.device("cpu"))


def test_the_papers_tower_runs() -> None:
    torch.manual_seed(0)
    big = ClipModel(SMALL.model_copy(update={"image_tower": "resnet50", "input_size": 64})).eval()
    with torch.inference_mode():
        reading = big.read_films(films(1, 64))
    assert reading.label_logits.shape == (1, 14)
    assert sum(p.numel() for p in big.image_tower.parameters()) == 23_508_032


def test_folded_normalisation_gives_the_same_features_and_is_for_inference_only() -> None:
    torch.manual_seed(0)
    tower = ResNet50Tower().eval()
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    images = torch.randn(2, 1, 64, 64)
    with_gradients = tower(images)
    assert with_gradients.raw.requires_grad
    with torch.no_grad():
        folded = tower(images)
        tower.is_folded = False
        plain = tower(images)
    torch.testing.assert_close(folded.raw, plain.raw, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(plain.raw, with_gradients.raw.detach())
    assert not torch.equal(folded.raw, plain.raw)


def test_a_head_that_is_a_probe_does_not_move_the_tower() -> None:
    torch.manual_seed(0)
    probe = ClipModel(SMALL.model_copy(update={"head_moves_tower": False}))
    probe.label_logits(films()).sum().backward()
    assert probe.image_tower.stem[0].weight.grad is None
    assert probe.label_head.whole[1].weight.grad is not None
    moving = ClipModel(SMALL)
    moving.label_logits(films()).sum().backward()
    assert moving.image_tower.stem[0].weight.grad is not None


def test_only_a_model_for_the_sigmoid_loss_has_a_bias() -> None:
    assert "logit_bias" not in ClipModel(SMALL).state_dict()
    model = ClipModel(SMALL.model_copy(update={"logit_bias": True}))
    assert model.state_dict()["logit_bias"].item() == -10
    assert model.scale.item() == pytest.approx(10)
