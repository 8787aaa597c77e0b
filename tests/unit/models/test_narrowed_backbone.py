"""The paper's backbone at other widths, and the paper's networks made of it."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import resnet50

from crrg.config.paper import PAPER_DETECTOR, PAPER_SELECTOR, narrow_detector, narrow_generator, narrow_selector
from crrg.models.backbone import ResNet50Backbone
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import FeatureSelector


def num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_width_keeps_every_name_shape_and_random_number() -> None:
    torch.manual_seed(3)
    published = resnet50(weights=None)
    published.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    wanted = torch.nn.Sequential(*list(published.children())[:-2]).state_dict()
    torch.manual_seed(3)
    found = ResNet50Backbone().body.state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_a_narrow_one_has_the_same_layers_with_fewer_channels() -> None:
    with torch.device("meta"):
        published = ResNet50Backbone().state_dict()
    backbone = ResNet50Backbone(5).eval()
    found = backbone.state_dict()
    assert list(found) == list(published)
    assert backbone.num_channels == 160
    assert found["body.4.0.conv1.weight"].shape == (5, 5, 1, 1)
    assert found["body.7.2.conv3.weight"].shape == (160, 40, 1, 1)
    shapes = {name: tensor.shape for name, tensor in found.items() if tensor.ndim}
    assert all(shape[0] * 64 == published[name].shape[0] * 5 for name, shape in shapes.items())
    assert num_parameters(backbone) == 147_495
    images = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        folded = backbone(images)
        backbone.is_folded = False
        assert folded.shape == (2, 160, 2, 2)
        torch.testing.assert_close(folded, backbone(images), rtol=1e-4, atol=1e-5)


def test_at_the_published_width_the_narrowed_networks_are_the_papers() -> None:
    assert narrow_detector(64, 512) == PAPER_DETECTOR
    assert narrow_selector(64, 512) == PAPER_SELECTOR


def test_narrowed_networks_keep_the_papers_rules() -> None:
    detector = narrow_detector(6, 256)
    assert len(detector.anchor_sizes) * len(detector.anchor_ratios) == 160
    assert detector.anchor_sizes == (10, 20, 30, 40, 50, 60, 70, 80, 90, 150)
    assert (detector.roi_size, detector.roi_channels, detector.representation_size) == (8, 0, 96)
    assert (detector.spatial_prior, detector.num_refinements, detector.score_threshold) == (False, 0, 0.0)
    selector = narrow_selector(6, 256)
    assert (selector.width, selector.feature_size, selector.region_embedding) == (192, 96, False)
    words = narrow_generator(132, 2, 4, 96, 900, 64)
    assert (words.position_table, words.condition_on_findings, words.freeze_language_model) == ("wte", False, False)
    model = RegionDetector(narrow_detector(1, 64, 16)).eval()
    found = model.detect(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
    assert found.region_features is not None
    assert found.proposals_xyxy is not None
    assert found.region_features.shape == (1, 29, 32)
    heads = FeatureSelector(narrow_selector(1, 64, 16))
    assert heads(found.region_features).features.shape == (1, 29, 16)
    pooled = model.box_head.mean_features(
        model.maps(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)), found.proposals_xyxy
    )
    torch.testing.assert_close(pooled, found.region_features, rtol=1e-3, atol=1e-4)


def test_widths_that_no_network_has_are_refused() -> None:
    with pytest.raises(ValueError, match="resnet_width"):
        narrow_detector(65, 256)
