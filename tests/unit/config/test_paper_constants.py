"""The constants of RGRG (Tanida et al., CVPR 2023) as published, literally: a changed one is noticed here.

Where ours differs on purpose, ours stands here with the reason; ``crrg.training.paper_stages`` lists the differences.
CXR-CLIP's constants are held by ``tests/unit/training/test_clip_stage.py``.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crrg.config.base import Preset
from crrg.config.paper import PAPER_DECODING, PAPER_DETECTOR, PAPER_GENERATOR, PAPER_SELECTOR, paper_thresholds
from crrg.config.presets import stage_training
from crrg.domain.labels import FINDINGS, NUM_LABELS
from crrg.domain.regions import NUM_REGIONS
from crrg.inference.dedup import SIMILARITY_THRESHOLD
from crrg.inference.regions import RegionReadings, RegionThresholds
from crrg.models import backbone, region_matching
from crrg.models.proposals import build_proposal_network
from crrg.models.region_heads import FeatureSelector
from crrg.training import paper_together

DETECTOR = {
    "backbone": "resnet50", "input_size": 512, "resnet_width": 64, "pyramid_channels": 0,
    "anchor_sizes": (20, 40, 60, 80, 100, 120, 140, 160, 180, 300),
    "anchor_ratios": (0.2, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.3, 1.5, 2.1, 2.6, 3.0, 5.0, 8.0),
    "roi_size": 8, "roi_samples": 2, "roi_channels": 0, "representation_size": 1024,
    "num_proposals": 1000, "num_candidates": 1000, "num_training_proposals": 2000,
    "num_training_rois": 512, "positive_share": 0.25, "added_boxes": "truth",
    "spatial_prior": False, "num_refinements": 0, "score_threshold": 0.0, "region_features": True, "num_regions": 29,
}  # fmt: skip
LANGUAGE_MODEL = {
    "num_layers": 24, "num_heads": 16, "hidden_size": 1024, "vocab_size": 50257, "max_length": 1024,
    "feature_size": 1024, "dropout": 0.1, "position_table": "wte", "freeze_language_model": True,
    "condition_on_findings": False, "condition_on_report": False,
}  # fmt: skip
DECODING = {
    "num_beams": 4, "max_tokens": 300, "length_penalty": 1.0, "no_repeat_ngram": 0, "follow_flags": False,
    "rerank": False, "reconcile": False, "compat": "rgrg",
}  # fmt: skip
AUGMENTATION = {
    "shift": 0.02, "brightness": 0.2, "contrast": 0.2, "noise": 50**0.5, "least_noise": 10**0.5,
    "unmoved_share": 0.5, "unexposed_share": 0.5, "noiseless_share": 0.5,
    "scale": 0.0, "stretch": 0.0, "gamma": 0.0,
}  # fmt: skip


def test_the_detector_has_the_published_constants() -> None:
    assert {name: getattr(PAPER_DETECTOR, name) for name in DETECTOR} == DETECTOR
    assert (backbone.PIXEL_MEAN, backbone.PIXEL_STD) == (0.471, 0.302)
    network = build_proposal_network(PAPER_DETECTOR, 4)
    assert network.anchor_generator.num_anchors_per_location() == [160]
    matcher = network.proposal_matcher
    assert (matcher.high_threshold, matcher.low_threshold, network.nms_thresh) == (0.7, 0.3, 0.7)
    assert (region_matching.SAME_IOU, region_matching.OTHER_IOU, region_matching.FOREGROUND_IOU) == (0.7, 0.3, 0.5)
    sampler = network.fg_bg_sampler
    assert (sampler.batch_size_per_image, sampler.positive_fraction) == (256, 0.5)
    for is_training, num_kept in ((True, 2000), (False, 1000)):
        network.train(is_training)
        assert (network.pre_nms_top_n(), network.post_nms_top_n()) == (num_kept, num_kept)


def test_the_heads_have_the_published_layers() -> None:
    assert PAPER_SELECTOR.backbone == "detector"
    assert not PAPER_SELECTOR.region_embedding
    with torch.device("meta"):
        heads = FeatureSelector(PAPER_SELECTOR)
    assert (heads.dim_reduction.in_features, heads.dim_reduction.out_features) == (2048, 1024)
    for head in (heads.selection, heads.abnormal):
        sizes = [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, torch.nn.Linear)]
        assert sizes == [(1024, 512), (512, 128), (128, 1)]
        assert sum(weights.numel() for weights in head.parameters()) == 590_593


def test_a_region_is_selected_and_abnormal_above_a_logit_of_minus_one() -> None:
    limits = RegionThresholds.from_config({"thresholds": paper_thresholds()})
    for logit, is_over in ((-1.0, False), (-0.99999, True)):
        likely = np.full((1, NUM_REGIONS), 1 / (1 + math.exp(-logit)), dtype=np.float32)
        nothing = np.zeros((1, NUM_REGIONS, NUM_LABELS), dtype=np.float32)
        boxes = np.zeros((1, NUM_REGIONS, 4), dtype=np.float32)
        readings = RegionReadings(boxes, likely, likely > 0, boxes, likely, likely, nothing)
        assert np.unique(readings.selected(limits)).tolist() == [is_over]
        assert np.unique(readings.flags(limits)[..., -1]).tolist() == [is_over]
    assert set(paper_thresholds()["findings"]) == set(FINDINGS)
    assert min(paper_thresholds()["findings"].values()) > 1, "the published heads read no findings"


def test_losses_words_and_search_have_the_published_constants() -> None:
    assert (paper_together.HEAD_WEIGHT, paper_together.WORD_WEIGHT) == (5.0, 2.0)
    assert (paper_together.SELECTION_POS_WEIGHT, paper_together.ABNORMAL_POS_WEIGHT) == (2.2, 6.0)
    assert {name: getattr(PAPER_GENERATOR, name) for name in LANGUAGE_MODEL} == LANGUAGE_MODEL
    assert {name: getattr(PAPER_DECODING, name) for name in DECODING} == DECODING
    assert SIMILARITY_THRESHOLD == 0.9


def test_the_stages_learn_with_the_published_rates_and_batches() -> None:
    base = stage_training("base", "paper")
    stages = {"detector": base.detector, "selector": base.selector, "generator": base.generator}
    loops = {name: stage.loop for name, stage in stages.items()}
    assert {name: loop.learning_rate for name, loop in loops.items()} == {
        "detector": 1e-3, "selector": 5e-5, "generator": 5e-5
    }  # fmt: skip
    assert {name: (loop.batch_size, loop.accumulate) for name, loop in loops.items()} == {
        # films per step of the third stage are not published; ours are those of the others
        "detector": (16, 4), "selector": (16, 4), "generator": (2, 32)
    }  # fmt: skip
    for name, loop in loops.items():
        epochs = loop.num_steps * loop.batch_size * loop.accumulate / 166_521
        assert epochs == pytest.approx(20, abs=0.02), name
        assert (loop.weight_decay, loop.ema_decay, loop.freeze_normalisation) == (0.01, 0, False), name
        # published: the rate is halved where the validation loss stays, and the weights with the least are kept
        assert (loop.schedule, loop.warmup_share, loop.validate_every) == ("cosine", 0.1, 0), name
    for settings in (base.detector.augmentation, base.selector.augmentation):
        # published: also turned by at most two degrees
        assert {name: getattr(settings, name) for name in AUGMENTATION} == AUGMENTATION
    # published: frozen; a language model of random weights has to learn, and only an imported one is frozen
    assert not base.generator.architecture.freeze_language_model


@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
def test_no_gradient_of_the_published_stages_is_clipped(preset: Preset) -> None:
    found = stage_training(preset, "paper")
    assert [stage.loop.clip_norm for stage in (found.detector, found.selector, found.generator)] == [0, 0, 0]
