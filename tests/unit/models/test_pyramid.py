"""The detector's feature pyramid: which box belongs to which level, that all levels learn, and that it is an option."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor
from torchvision.ops import roi_align

from crrg.config.models import COARSEST_STRIDES, PYRAMID_LEVELS, DetectorArchitecture, SelectorArchitecture
from crrg.config.paper import PAPER_DETECTOR
from crrg.config.presets import preset_training
from crrg.errors import ModelError
from crrg.models.backbone import ResNet50Backbone, build_backbone, normalise_films
from crrg.models.box_head import BoxHead
from crrg.models.detector import RegionDetector, load_detector
from crrg.models.pyramid import anchor_groups, level_borders, levels_of
from crrg.models.region_heads import FeatureSelector, RegionSelector

CPU = torch.device("cpu")
ONE_MAP = DetectorArchitecture(
    input_size=64, width=8, anchor_sizes=(32, 8, 16), anchor_ratios=(0.5, 1.0, 2.0), num_proposals=20,
    num_training_rois=60, representation_size=32, roi_channels=0,
)  # fmt: skip
LEVELS = DetectorArchitecture.model_validate({**ONE_MAP.model_dump(), "pyramid_channels": 12})


def films(number: int = 2) -> Tensor:
    return torch.randint(0, 256, (number, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def boxes(number: int = 2) -> Tensor:
    """29 boxes of 6, 16 and 40 pixels in turn, so that every level has some."""
    sides = torch.tensor([[6.0], [16.0], [40.0]]).repeat(10, 2)[:29]
    corners = torch.tensor([[(3.0 * i) % 24, (5.0 * i) % 24] for i in range(29)])
    return torch.cat([corners, corners + sides], dim=1).expand(number, -1, -1).clone()


def build(architecture: DetectorArchitecture = LEVELS) -> RegionDetector:
    torch.manual_seed(0)
    return RegionDetector(architecture)


def test_a_box_belongs_to_the_level_whose_anchors_have_its_size() -> None:
    sizes = (72, 12, 20, 48, 32)
    groups = anchor_groups(DetectorArchitecture(anchor_sizes=sizes, pyramid_channels=8))
    assert groups == ((12, 20), (32, 48), (72,))
    borders = level_borders(groups)
    assert borders == pytest.approx((640**0.5, 3456**0.5))
    sides = torch.tensor([[0, 0], [25, 25], [26, 26], [10, 63], [10, 65], [58, 58], [90, 59]])
    found = levels_of(torch.cat([torch.full_like(sides, 3), sides + 3], dim=1).float(), borders)
    assert found.tolist() == [0, 0, 1, 0, 1, 1, 2]
    alone = anchor_groups(DetectorArchitecture(anchor_sizes=sizes))
    assert alone == (sizes,), "the order of a single map's anchors is that of its weights"
    assert levels_of(boxes(1), level_borders(alone)).tolist() == [[0] * 29]


@pytest.mark.parametrize("kind", ["conv", "resnet50"])
def test_a_backbones_stages_are_what_its_map_is_made_of(kind: Any) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(kind, 4, 64, 1)
    images = normalise_films(films(1))
    stages, features = backbone.train().stages(images), backbone.forward(images)
    assert [stage.shape[1] for stage in stages] == list(backbone.stage_channels)
    assert [64 // stage.shape[-1] for stage in stages] == list(backbone.stage_strides)
    assert len(stages) == PYRAMID_LEVELS
    assert backbone.stage_strides[-1] == COARSEST_STRIDES[kind]
    assert torch.equal(stages[backbone.stage_strides.index(backbone.stride)], features)
    if isinstance(backbone, ResNet50Backbone):
        backbone.eval()
        exact = [stage.detach() for stage in backbone.stages(images)]
        with torch.no_grad():
            for folded, own in zip(backbone.stages(images), exact, strict=True):
                torch.testing.assert_close(folded, own, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "cells"),
    [({}, (16, 8, 4)), ({"backbone": "resnet50", "resnet_width": 1, "spatial_prior": False}, (8, 4, 2))],
)
def test_every_level_proposes_learns_and_is_cut_out(changes: dict[str, Any], cells: tuple[int, ...]) -> None:
    model = build(DetectorArchitecture.model_validate({**LEVELS.model_dump(), **changes}))
    assert [tuple(level.shape) for level in model.maps(films())] == [(2, 12, side, side) for side in cells]
    losses = model(films(), boxes())
    torch.stack(list(losses.values())).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert model.pyramid is not None
    for number in range(PYRAMID_LEVELS):
        for part in (model.pyramid.network.inner_blocks, model.pyramid.network.layer_blocks, model.rpn.head.levels):
            assert all(float(each.grad.abs().sum()) > 0 for each in part[number].parameters() if each.grad is not None)
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


def levels(*sides: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 12, side, side, generator=generator).requires_grad_() for side in sides]


def test_proposals_are_scored_on_their_own_level_in_the_order_they_came() -> None:
    torch.manual_seed(0)
    head = BoxHead(LEVELS.model_copy(update={"spatial_prior": False}), 12, (4, 8, 16)).train()
    maps, (first, second) = levels(16, 8, 4), boxes()
    own = [first[:7], second[7:20]]
    logits, codes = head(maps, own)
    for row, (film, box) in enumerate((film, box) for film, rows in enumerate(own) for box in rows):
        level = int(levels_of(box, level_borders(anchor_groups(LEVELS))))
        pooled = roi_align(maps[level][film : film + 1], [box[None]], 5, 1 / (4, 8, 16)[level], 1)
        hidden = torch.relu(head.fc7(torch.relu(head.fc6(pooled.flatten(1)))))
        torch.testing.assert_close(logits[row], head.cls_score(hidden)[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(codes[row], head.bbox_pred(hidden)[0], rtol=1e-4, atol=1e-5)
    middle = [first[1:2], second[4:5]]
    gradients = torch.autograd.grad(head(maps, middle)[0].sum(), maps)
    assert [float(gradient.abs().sum()) > 0 for gradient in gradients] == [False, True, False]


def test_levels_go_through_the_map_or_are_cut_out_with_the_same_answers() -> None:
    torch.manual_seed(0)
    head, maps = BoxHead(LEVELS, 12, (4, 8, 16)).eval(), levels(16, 8, 4)
    own = [boxes()[0].repeat(2, 1), boxes()[1, :3]]
    with torch.no_grad():
        quick = head(maps, own)
        head.exact_roi = True
        exact = head(maps, own)
    for found, wanted in zip(quick, exact, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert not torch.equal(quick[0], exact[0]), "58 boxes go through the map of the coarsest level"


def test_a_film_is_read_the_same_alone_and_among_others() -> None:
    model = build().eval()
    model.shape_prior.fit(boxes(4) / 64)
    together, alone = model.detect(films(3)), model.detect(films(3)[1:2])
    assert torch.allclose(together.input_boxes_xyxy[1:2], alone.input_boxes_xyxy, atol=1e-2)
    assert torch.allclose(together.scores[1:2], alone.scores, atol=1e-4)
    assert together.input_boxes_xyxy.shape == (3, 29, 4)
    assert together.input_boxes_xyxy.min() >= 0
    assert together.input_boxes_xyxy.max() <= 64


def test_selectors_work_with_it() -> None:
    model = build(LEVELS.model_copy(update={"region_features": True})).eval()
    found = model.detect(films())
    assert found.region_features is not None
    heads = FeatureSelector(SelectorArchitecture(backbone="detector", width=12, feature_size=16))
    assert heads(found.region_features).features.shape == (2, 29, 16)
    at = model.features_at(films(), boxes())
    for level, stride in enumerate((4, 8, 16)):
        pooled = roi_align(model.maps(films())[level], list(boxes()[:, level : level + 1]), 5, 1 / stride, 1)
        torch.testing.assert_close(at[:, level], pooled.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)
    own = RegionSelector(SelectorArchitecture(input_size=64, width=8))
    assert own.start_from(model.backbone.state_dict()), "the pyramid is none of the backbone"


def test_weights_with_and_without_a_pyramid_are_not_taken_for_each_other() -> None:
    model = build().eval()
    data = save(model.state_dict())
    again = load_detector({"architecture": LEVELS.model_dump(mode="json")}, data, CPU)
    assert torch.equal(again.detect(films()).input_boxes_xyxy, model.detect(films()).input_boxes_xyxy)
    for weights, architecture in (
        (data, ONE_MAP),
        (save(build(ONE_MAP).state_dict()), LEVELS),
        (data, LEVELS.model_copy(update={"pyramid_channels": 16})),
    ):
        with pytest.raises(ModelError, match="do not fit"):
            load_detector({"architecture": architecture.model_dump(mode="json")}, weights, CPU)


def test_a_detector_without_a_pyramid_is_written_as_before() -> None:
    base = preset_training("base").detector.architecture
    for architecture in (base, PAPER_DETECTOR, ONE_MAP):
        assert "pyramid_channels" not in architecture.model_dump()
        assert "pyramid_channels" not in architecture.model_dump_json()
        assert DetectorArchitecture.model_validate(architecture.model_dump(mode="json")) == architecture
    assert LEVELS.model_dump(mode="json")["pyramid_channels"] == 12
    assert DetectorArchitecture.model_validate_json(LEVELS.model_dump_json()) == LEVELS
    names = [name for name in build(DetectorArchitecture()).state_dict() if not name.startswith("backbone.")]
    layers = ["rpn.head.conv.0.0", "rpn.head.cls_logits", "rpn.head.bbox_pred"]
    layers += [f"box_head.{layer}" for layer in ("reduce", "fc6", "fc7", "cls_score", "bbox_pred")]
    shape = [name for name in names if name.startswith("shape_prior.")]
    weights = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert names == ["place", *shape, *weights, "box_head.geometry.weight", "box_head.film.weight"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchor_sizes": (8, 16)}, "needs 3 anchor_sizes or more, one for each level, got 2; or set"),
        ({"input_size": 72}, "backbone `conv` needs an input_size that is a multiple of 16, got 72"),
        ({"input_size": 80, "backbone": "resnet50"}, "`resnet50` needs an input_size that is a multiple of 32, got 80"),
        ({"pyramid_channels": 513}, "less than or equal to 512"),
    ],
)
def test_a_pyramid_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DetectorArchitecture.model_validate({**LEVELS.model_dump(), **changes})
    DetectorArchitecture.model_validate({**LEVELS.model_dump(), **changes, "pyramid_channels": 0})
