"""The paper's modules, constant for constant, as architectures, and those of published checkpoints.

Source: generation: RGRG (Tanida et al., CVPR 2023), which CRRG-CLIP (Xu, Markchom, Liang, 2024) takes over.
"""

from __future__ import annotations

from typing import Any

from crrg.config.models import (
    ClipArchitecture,
    DecodingSettings,
    DetectorArchitecture,
    GeneratorArchitecture,
    SelectorArchitecture,
)
from crrg.domain.labels import FINDINGS

LOGIT_THRESHOLD_PROBABILITY = 0.26894145
"""A region is selected, or abnormal, above a logit of -1: the probability of a logit of just -1 is below this one, in
single precision too."""

NEVER = 2.0
"""No probability reaches it."""


def paper_thresholds() -> dict[str, Any]:
    """Return the selector's thresholds as ``config.json`` has them: both heads at a logit of -1, findings never."""
    heads = dict.fromkeys(("selection", "selection_beside_findings", "abnormal"), LOGIT_THRESHOLD_PROBABILITY)
    return {**heads, "findings": dict.fromkeys(FINDINGS, NEVER)}


PAPER_DETECTOR = DetectorArchitecture(
    backbone="resnet50",
    input_size=512,
    anchor_sizes=(20, 40, 60, 80, 100, 120, 140, 160, 180, 300),
    anchor_ratios=(0.2, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.3, 1.5, 2.1, 2.6, 3.0, 5.0, 8.0),
    roi_size=8,
    roi_samples=2,
    roi_channels=0,
    representation_size=1024,
    num_proposals=1000,
    num_candidates=1000,
    num_training_proposals=2000,
    num_training_rois=512,
    positive_share=0.25,
    added_boxes="truth",
    spatial_prior=False,
    num_refinements=0,
    score_threshold=0.0,
    region_features=True,
)

PAPER_SELECTOR = SelectorArchitecture(
    backbone="detector",
    input_size=512,
    width=2048,
    detail_channels=0,
    roi_size=8,
    roi_samples=2,
    keep_layout=False,
    margin=0.0,
    feature_size=1024,
    dropout=0.0,
    region_embedding=False,
)

PAPER_GENERATOR = GeneratorArchitecture(
    num_layers=24,
    num_heads=16,
    hidden_size=1024,
    vocab_size=50257,
    max_length=1024,
    feature_size=1024,
    condition_on_findings=False,
    position_table="wte",
    freeze_language_model=True,
)

PUBLISHED_BASE_CHANNELS = 64
CHANNELS_PER_BASE = PAPER_SELECTOR.width // PUBLISHED_BASE_CHANNELS
"""Length of the feature that the detector hands on, per base channel of the backbone."""

FEATURES_PER_CHANNEL = 16
"""Width of the box head and length of a region feature, per base channel of the backbone."""

LEAST_ANCHOR = 3
"""Pixels; of a smaller anchor at the ratio 8 the shorter side is rounded to nothing, and its loss is infinite."""


def narrow_detector(base_channels: int, input_size: int, representation_size: int = 0) -> DetectorArchitecture:
    """Return the paper's detector with fewer channels for smaller films; its rules and numbers of boxes stay.

    Args:
        base_channels: Of the backbone, 1..64; 64 is the published width.
        input_size: Side of the input, pixels; anchors shrink with it.
        representation_size: Width of the box head; 0 = 16 per base channel, as published.
    """
    share = input_size / PAPER_DETECTOR.input_size
    update = {
        "resnet_width": base_channels,
        "input_size": input_size,
        "anchor_sizes": tuple(max(LEAST_ANCHOR, round(side * share)) for side in PAPER_DETECTOR.anchor_sizes),
        "representation_size": representation_size or FEATURES_PER_CHANNEL * base_channels,
    }
    return DetectorArchitecture.model_validate({**PAPER_DETECTOR.model_dump(), **update})


def feature_sizes(detector: DetectorArchitecture) -> dict[str, int]:
    """Return the fields of the paper's two heads that are what its detector hands on: ``width`` and ``input_size``."""
    return {"width": CHANNELS_PER_BASE * detector.resnet_width, "input_size": detector.input_size}


def narrow_selector(base_channels: int, input_size: int, feature_size: int = 0) -> SelectorArchitecture:
    """Return the paper's two heads for the features of ``narrow_detector``; 0 = 16 values per base channel."""
    update = {
        "input_size": input_size,
        "width": CHANNELS_PER_BASE * base_channels,
        "feature_size": feature_size or FEATURES_PER_CHANNEL * base_channels,
    }
    return SelectorArchitecture.model_validate({**PAPER_SELECTOR.model_dump(), **update})


def narrow_generator(
    hidden_size: int, num_layers: int, num_heads: int, feature_size: int, vocab_size: int, max_length: int
) -> GeneratorArchitecture:
    """Return the paper's language model at other sizes, ``uk`` and ``uv`` in all layers, positions in the token table.

    Nothing is frozen, since no published language model has these sizes, and nothing is dropped.
    """
    update = {
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "feature_size": feature_size,
        "vocab_size": vocab_size,
        "max_length": max_length,
        "freeze_language_model": False,
        "dropout": 0.0,
    }
    return PAPER_GENERATOR.model_copy(update=update)


PAPER_DECODING = DecodingSettings(
    num_beams=4,
    length_penalty=1.0,
    max_tokens=300,
    no_repeat_ngram=0,
    follow_flags=False,
    num_slots=48,
    compat="rgrg",
)

_BIO_CLINICAL_BERT = {
    "text_tower": "bert",
    "text_layers": 12,
    "text_heads": 12,
    "text_hidden_size": 768,
    "text_vocab_size": 28996,
    "max_text_length": 256,
    "text_positions": 512,
    "text_types": 2,
    "text_dropout": 0.1,
    "projection_size": 512,
}

CXR_CLIP_RESNET50 = ClipArchitecture.model_validate(
    {
        "image_tower": "resnet50",
        "input_size": 224,
        "pixel_mean": (0.485, 0.456, 0.406),
        "pixel_std": (0.229, 0.224, 0.225),
        "projects_evidence": False,
        "label_head": "none",
        "num_labels": 0,
        "clamp_temperature": False,
        **_BIO_CLINICAL_BERT,
    }
)
"""CXR-CLIP (You et al., MICCAI 2023) with ResNet-50, the paper's classification module."""

CXR_CLIP_SWIN = ClipArchitecture.model_validate(
    {
        **CXR_CLIP_RESNET50.model_dump(),
        "image_tower": "swin",
        "image_width": 96,
        "image_pooling": "token0",
        "pixel_mean": (0.5,),
        "pixel_std": (0.5,),
    }
)
"""CXR-CLIP with Swin-T; the film is what the first place says, as published."""

CHEXZERO = ClipArchitecture(
    image_tower="vit",
    input_size=224,
    pixel_scale=1.0,
    pixel_mean=(101.48761,),
    pixel_std=(83.43944,),
    image_width=768,
    image_layers=(12,),
    image_heads=(12,),
    patch_size=32,
    text_tower="clip",
    text_layers=12,
    text_heads=8,
    text_hidden_size=512,
    text_vocab_size=49408,
    max_text_length=77,
    projection_bias=False,
    projection_size=512,
    projects_evidence=False,
    label_head="none",
    num_labels=0,
    clamp_temperature=False,
)
"""CheXzero (Tiu et al., 2022): ViT-B/32 of OpenAI's CLIP."""
