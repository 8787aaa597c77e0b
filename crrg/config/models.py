"""Architectures: sizes and switches of the four networks, and how phrases are decoded, as plain values."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crrg.config.base import FrozenConfig
from crrg.domain.labels import NUM_LABELS
from crrg.domain.regions import NUM_REGIONS


class DetectorArchitecture(FrozenConfig):
    """Faster R-CNN over 29 regions and background.

    Attributes:
        backbone: ``conv`` is a small stride-8 network from scratch, ``resnet50`` the paper's (stride 32).
        input_size: Side of the square input, pixels.
        width: Base channels of the ``conv`` backbone.
        anchor_sizes: Anchor sides in input pixels.
        anchor_ratios: Height over width.
        roi_size: Bins per side of RoIAlign.
        roi_samples: Points per bin and axis; 1 costs a quarter of the paper's 2 and little accuracy on a fine map.
        roi_channels: Channels the map is reduced to before RoIAlign; 0 = not reduced.
        representation_size: Width of the box head.
        num_proposals: Proposals kept after non-maximum suppression.
        num_candidates: Likeliest anchors that enter the suppression; 0 = twice the proposals kept.
        num_training_proposals: Proposals and candidates in training; 0 = as in use.
        num_training_rois: Proposals per film that train the box head.
        positive_share: Largest share of them that belong to a region.
        spatial_prior: Whether the network knows where on the film it looks, and always tries the mean training boxes as
            proposals and weighs the boxes of a film together.
        num_refinements: Times the box head looks again where the found regions together say a region should be.
        score_threshold: Score from which a region counts as detected, 0..1.
        region_features: Whether each region's mean backbone feature under its winning proposal is handed on (paper).
        num_regions: Classes without background.
    """

    backbone: Literal["conv", "resnet50"] = "conv"
    input_size: int = Field(128, ge=32, le=1024)
    width: int = Field(24, ge=4, le=256)
    anchor_sizes: tuple[int, ...] = (12, 20, 32, 48, 72)
    anchor_ratios: tuple[float, ...] = (0.33, 0.6, 1.0, 1.6, 2.6, 5.0)
    roi_size: int = Field(5, ge=1, le=14)
    roi_samples: int = Field(1, ge=1, le=4)
    roi_channels: int = Field(48, ge=0, le=2048)
    representation_size: int = Field(256, ge=16, le=4096)
    num_proposals: int = Field(64, ge=10, le=2000)
    num_candidates: int = Field(0, ge=0, le=4000)
    num_training_proposals: int = Field(0, ge=0, le=4000)
    num_training_rois: int = Field(96, ge=8, le=2000)
    positive_share: float = Field(0.6, gt=0, lt=1)
    spatial_prior: bool = True
    num_refinements: int = Field(2, ge=0, le=3)
    score_threshold: float = Field(0.05, ge=0, lt=1)
    region_features: bool = False
    num_regions: int = NUM_REGIONS


class SelectorArchitecture(FrozenConfig):
    """Region encoder with selection, abnormality and per-region finding heads.

    Attributes:
        backbone: ``conv`` is a small stride-8 network, ``resnet50`` a larger one (stride 32), ``detector`` none: the
            detector's own region features are judged, as in the paper.
        input_size: Side of the square input, pixels.
        width: Base channels of the ``conv`` backbone; channels of the detector's region features with ``detector``.
        detail_channels: Channels of a map of half the stride that joins coarse and fine features; 0 = none.
        roi_size: Bins per side of RoIAlign.
        roi_samples: Points per bin and axis.
        keep_layout: Whether a feature keeps where inside the region something lies; else mean and maximum of the bins.
        margin: Widening of each box on every side, share of its own side: fluid and lines lie on the edge.
        feature_size: Length of a region feature.
        dropout: Share of feature values dropped in training.
        region_embedding: Whether the heads know which region they look at.
        num_regions: Regions.
        num_labels: Finding labels per region.
    """

    backbone: Literal["conv", "resnet50", "detector"] = "conv"
    input_size: int = Field(128, ge=32, le=1024)
    width: int = Field(24, ge=4, le=4096)
    detail_channels: int = Field(48, ge=0, le=512)
    roi_size: int = Field(6, ge=1, le=14)
    roi_samples: int = Field(1, ge=1, le=4)
    keep_layout: bool = True
    margin: float = Field(0.1, ge=0, le=1)
    feature_size: int = Field(128, ge=8, le=2048)
    dropout: float = Field(0.2, ge=0, lt=1)
    region_embedding: bool = True
    num_regions: int = NUM_REGIONS
    num_labels: int = NUM_LABELS


class GeneratorArchitecture(FrozenConfig):
    """GPT-2 with pseudo self-attention on region features.

    Attributes:
        num_layers: Transformer blocks.
        num_heads: Attention heads.
        hidden_size: Width.
        vocab_size: Size of the byte-pair vocabulary trained on the training phrases.
        max_length: Longest phrase, tokens, begin and end included.
        feature_size: Length of the region feature it is conditioned on.
        condition_on_findings: Whether region identity and finding flags are conditions beside the region feature.
        position_table: ``wpe`` is right; ``wte`` repeats the published weights' lookup.
        dropout: Share of activations dropped in training.
        freeze_language_model: Whether only the image branch learns, as with pretrained language weights.
        num_regions: Regions.
        num_labels: Finding labels per region.
    """

    num_layers: int = Field(2, ge=1, le=48)
    num_heads: int = Field(4, ge=1, le=32)
    hidden_size: int = Field(128, ge=16, le=2048)
    vocab_size: int = Field(1024, ge=300, le=60000)
    max_length: int = Field(64, ge=8, le=1024)
    feature_size: int = Field(128, ge=8, le=2048)
    condition_on_findings: bool = True
    position_table: Literal["wpe", "wte"] = "wpe"
    dropout: float = Field(0.1, ge=0, lt=1)
    freeze_language_model: bool = False
    num_regions: int = NUM_REGIONS
    num_labels: int = NUM_LABELS


class DecodingSettings(FrozenConfig):
    """How phrases are searched.

    Attributes:
        num_beams: Hypotheses kept per phrase; 1 is greedy.
        length_penalty: Power of the length by which a hypothesis' log-probability is divided.
        max_tokens: Longest phrase, begin token included; the generator's own limit where that is less.
        no_repeat_ngram: Length of a run of tokens that may not come twice in a phrase; 0 = off.
        follow_flags: Whether, of a phrase's hypotheses, the one is taken whose words state the finding flags best that
            it was conditioned on; otherwise the likeliest.
        num_slots: Phrases computed at once at most; more is faster where there are many, and takes more memory.
        precision: ``exact`` computes in float32; ``fast`` rounds weights to 8 bits on a CPU and to bfloat16 on a GPU,
            which changes some phrases.
        compat: ``rgrg`` allows what the paper's search allows: an empty phrase, and placeholders.
    """

    num_beams: int = Field(4, ge=1, le=16)
    length_penalty: float = Field(1.0, ge=0, le=4)
    max_tokens: int = Field(300, ge=2, le=1024)
    no_repeat_ngram: int = Field(16, ge=0, le=64)
    follow_flags: bool = True
    num_slots: int = Field(32, ge=1, le=1024)
    precision: Literal["exact", "fast"] = "exact"
    compat: Literal["none", "rgrg"] = "none"


class ClipArchitecture(FrozenConfig):
    """Image tower, text tower, projections and label head.

    Attributes:
        image_tower: ``conv`` is a small network from scratch, ``resnet50`` the paper's.
        input_size: Side of the square input, pixels.
        image_width: Base channels of the ``conv`` tower.
        text_layers: Transformer blocks of the text tower.
        text_heads: Attention heads.
        text_hidden_size: Width of the text tower.
        text_vocab_size: Size of the vocabulary trained on the training reports.
        max_text_length: Longest text, tokens.
        text_dropout: Share of states dropped in the text tower in training; above 0 costs much time on a CPU.
        projection_size: Length of the shared embedding.
        head_dropout: Share of raw features dropped before the label head in training.
        num_labels: Outputs of the label head.
    """

    image_tower: Literal["conv", "resnet50"] = "conv"
    input_size: int = Field(128, ge=32, le=1024)
    image_width: int = Field(24, ge=4, le=256)
    text_layers: int = Field(2, ge=1, le=24)
    text_heads: int = Field(4, ge=1, le=32)
    text_hidden_size: int = Field(128, ge=16, le=2048)
    text_vocab_size: int = Field(1024, ge=300, le=60000)
    max_text_length: int = Field(96, ge=8, le=512)
    text_dropout: float = Field(0.0, ge=0, lt=1)
    projection_size: int = Field(128, ge=8, le=2048)
    head_dropout: float = Field(0.2, ge=0, lt=1)
    num_labels: int = NUM_LABELS
