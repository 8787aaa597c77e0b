"""The selector's network: shapes, region identity, its start from the detector and from usual shares."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save

from crrg.config.models import SelectorArchitecture
from crrg.errors import ModelError
from crrg.models.backbone import build_backbone
from crrg.models.region_heads import RegionSelector, load_selector

SMALL = SelectorArchitecture(input_size=64, width=8, detail_channels=8, roi_size=3, feature_size=16)
CPU = torch.device("cpu")


def inputs(number: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (number, 1, 64, 64), dtype=torch.uint8, generator=generator)
    return images, torch.tensor([10.0, 12.0, 40.0, 50.0]).expand(number, 29, 4)


def build(**changes: object) -> RegionSelector:
    torch.manual_seed(0)
    return RegionSelector(SMALL.model_copy(update=changes)).eval()


def test_every_region_is_judged() -> None:
    outputs = build()(*inputs())
    assert outputs.features.shape == (2, 29, 16)
    assert outputs.selection_logits.shape == outputs.abnormal_logits.shape == (2, 29)
    assert outputs.finding_logits.shape == (2, 29, 14)


def test_region_identity_tells_equal_boxes_apart() -> None:
    with_identity = build()(*inputs()).selection_logits
    without = build(region_embedding=False)(*inputs()).selection_logits
    assert float(with_identity.detach().std(dim=1).min()) > 1e-4
    assert float(without.detach().std(dim=1).max()) < 1e-6


def test_the_box_decides_what_is_seen() -> None:
    images, boxes = inputs(1)
    model = build()
    moved = model(images, boxes + torch.tensor([10.0, 5.0, 10.0, 5.0]))
    assert not torch.allclose(model(images, boxes).features, moved.features)


def test_empty_and_outlying_boxes_are_harmless() -> None:
    images, boxes = inputs(1)
    strange = boxes.clone()
    strange[0, 0] = torch.tensor([-90.0, -90.0, -80.0, -80.0])
    strange[0, 1] = torch.tensor([30.0, 30.0, 30.0, 30.0])
    assert torch.isfinite(build()(images, strange).features).all()


def test_usual_shares_are_where_the_heads_start() -> None:
    model = build()
    with torch.no_grad():
        model.selection.layers[-1].weight.zero_()
        model.selection.layers[-1].bias.zero_()
    model.start_at(torch.full((29,), 0.2), torch.full((29,), 0.0), torch.full((29, 14), 0.5))
    shares = model(*inputs()).selection_logits.detach().sigmoid()
    assert float(shares.mean()) == pytest.approx(0.2, abs=1e-5)
    assert torch.isfinite(model.abnormal.usual).all()


def test_starts_from_a_detector_of_the_same_shape_only() -> None:
    model = build()
    other = build_backbone("conv", 8, 64)
    assert model.start_from(other.state_dict())
    assert all(torch.equal(model.backbone.state_dict()[name], tensor) for name, tensor in other.state_dict().items())
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    assert not model.start_from(build_backbone("conv", 16, 64).state_dict())
    assert all(torch.equal(model.backbone.state_dict()[name], tensor) for name, tensor in before.items())


def test_averaged_regions_work_without_detail() -> None:
    outputs = build(detail_channels=0, keep_layout=False)(*inputs())
    assert outputs.features.shape == (2, 29, 16)


def test_detail_needs_the_small_backbone() -> None:
    with pytest.raises(ModelError, match="detail_channels"):
        build(backbone="resnet50")


def test_weights_come_back_and_foreign_weights_are_refused() -> None:
    model = build()
    data = save(model.state_dict())
    again = load_selector({"architecture": SMALL.model_dump()}, data, CPU)
    assert torch.equal(again(*inputs()).finding_logits, model(*inputs()).finding_logits)
    with pytest.raises(ModelError, match="do not fit"):
        load_selector({"architecture": SMALL.model_copy(update={"feature_size": 32}).model_dump()}, data, CPU)
