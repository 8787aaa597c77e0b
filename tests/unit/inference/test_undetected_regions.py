"""Of a region that was not found the published heads say nothing, nor does anybody where it has no mean box."""

from __future__ import annotations

import numpy as np
import torch

from crrg.config.models import DetectorArchitecture, SelectorArchitecture
from crrg.config.paper import PAPER_SELECTOR
from crrg.inference.regions import read_regions
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import FeatureSelector, RegionSelector

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
DETECTOR = DetectorArchitecture(
    input_size=64, width=8, anchor_sizes=(8, 16, 32), anchor_ratios=(0.5, 1.0, 2.0), num_proposals=20,
    representation_size=32, roi_channels=0, region_features=True, spatial_prior=False, num_refinements=0,
    score_threshold=0.0,
)  # fmt: skip


def test_neither_selected_nor_abnormal() -> None:
    torch.manual_seed(0)
    detector = RegionDetector(DETECTOR).eval()
    found = detector.detect(torch.from_numpy(IMAGES)[:, None])
    assert found.region_features is not None
    sizes = {"width": found.region_features.shape[-1], "feature_size": 16}
    selector = FeatureSelector(PAPER_SELECTOR.model_copy(update=sizes)).eval()
    readings = read_regions(detector, selector, IMAGES, IMAGES)
    missed = ~readings.detected
    assert missed.any()
    assert not missed.all()
    for probabilities in (readings.selection_probabilities, readings.abnormal_probabilities):
        assert (probabilities[missed] == 0).all()
        assert (probabilities[readings.detected] > 0).all()


def test_no_selector_judges_a_region_on_an_arbitrary_box() -> None:
    torch.manual_seed(0)
    detector = RegionDetector(DETECTOR).eval()
    selector = RegionSelector(SelectorArchitecture(input_size=64, width=4, detail_channels=0, feature_size=8)).eval()
    readings = read_regions(detector, selector, IMAGES, IMAGES)
    missed = ~readings.detected
    assert missed.any()
    for probabilities in (
        readings.selection_probabilities, readings.abnormal_probabilities, readings.finding_probabilities,
    ):  # fmt: skip
        assert (probabilities[missed] == 0).all()
        assert (probabilities[readings.detected] > 0).all()
    detector.shape_prior.fit(torch.tensor([0.1, 0.2, 0.5, 0.6]).expand(4, 29, 4))
    judged = read_regions(detector, selector, IMAGES, IMAGES)
    assert (judged.selection_probabilities > 0).all(), "on the mean box, as it was trained"
    assert (judged.finding_probabilities > 0).all()


def test_without_mean_boxes_it_has_an_arbitrary_box_and_not_the_whole_film() -> None:
    torch.manual_seed(0)
    detector, films = RegionDetector(DETECTOR).eval(), torch.from_numpy(IMAGES)[:, None]
    found = detector.detect(films)
    missed = ~found.detected
    assert missed.any()
    assert not detector.shape_prior.is_fitted()
    assert not (found.input_boxes_xyxy == detector.prior_boxes).all(dim=-1)[missed].any()
    detector.shape_prior.fit(torch.tensor([0.1, 0.2, 0.5, 0.6]).expand(4, 29, 4))
    assert detector.shape_prior.is_fitted()
    assert torch.equal(detector.detect(films).input_boxes_xyxy[missed], detector.prior_boxes.expand(3, -1, -1)[missed])
