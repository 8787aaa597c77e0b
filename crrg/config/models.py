"""Architectures: sizes and switches of the four networks, and how phrases are decoded, as plain values."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from crrg.config.base import Compat, FrozenConfig, GrownConfig, Precision
from crrg.domain.labels import NUM_LABELS
from crrg.domain.regions import NUM_REGIONS

PYRAMID_LEVELS = 3
COARSEST_STRIDES = {"conv": 16, "resnet50": 32}
"""Input pixels per cell of a pyramid's coarsest level; each finer level has half of the one before."""

Number = TypeVar("Number", int, float)


def _all_positive(values: tuple[Number, ...]) -> tuple[Number, ...]:
    for value in values:
        if not 0 < value < math.inf:
            raise ValueError(f"each must be a number above 0, got {value}")
    return values


POSITIVE = AfterValidator(_all_positive)
"""Of a field with several numbers: each of them is above 0 and finite."""


class DetectorArchitecture(GrownConfig):
    """Faster R-CNN over 29 regions and background.

    Attributes:
        backbone: ``conv`` is a small stride-8 network from scratch, ``resnet50`` the paper's (stride 32).
        input_size: Side of the square input, pixels.
        width: Base channels of the ``conv`` backbone.
        resnet_width: Base channels of the ``resnet50`` backbone: 64 as published, fewer for a narrowed one.
        pyramid_channels: Channels of every level of a feature pyramid, which finds and cuts out small regions on a fine
            map (stride 4 of ``conv``, 8 of ``resnet50``) and large ones on coarser maps; 0 = one map (paper).
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
        added_boxes: What training adds to the network's own proposals: ``truth`` the annotated boxes (paper),
            ``jittered`` two moved copies of each as well, ``none`` nothing: boxes are then learnt on what is proposed
            in use alone.
        spatial_prior: Whether the network knows where on the film it looks, and always tries the mean training boxes as
            proposals and weighs the boxes of a film together.
        num_refinements: Times the box head looks again where the found regions together say a region should be.
        score_threshold: Score from which a region counts as detected, 0..1.
        region_features: Whether each region's mean backbone feature under its winning proposal is handed on (paper).
        num_regions: Classes without background.
    """

    LATER_FIELDS: ClassVar[frozenset[str]] = frozenset({"pyramid_channels"})

    backbone: Literal["conv", "resnet50"] = "conv"
    input_size: int = Field(128, ge=32, le=1024)
    width: int = Field(24, ge=4, le=256)
    resnet_width: int = Field(64, ge=1, le=64)
    pyramid_channels: int = Field(0, ge=0, le=512)
    anchor_sizes: Annotated[tuple[int, ...], POSITIVE] = Field((12, 20, 32, 48, 72), min_length=1)
    anchor_ratios: Annotated[tuple[float, ...], POSITIVE] = Field((0.33, 0.6, 1.0, 1.6, 2.6, 5.0), min_length=1)
    roi_size: int = Field(5, ge=1, le=14)
    roi_samples: int = Field(1, ge=1, le=4)
    roi_channels: int = Field(48, ge=0, le=2048)
    representation_size: int = Field(256, ge=16, le=4096)
    num_proposals: int = Field(64, ge=10, le=2000)
    num_candidates: int = Field(0, ge=0, le=4000)
    num_training_proposals: int = Field(0, ge=0, le=4000)
    num_training_rois: int = Field(96, ge=8, le=2000)
    positive_share: float = Field(0.6, gt=0, lt=1)
    added_boxes: Literal["truth", "jittered", "none"] = "jittered"
    spatial_prior: bool = True
    num_refinements: int = Field(2, ge=0, le=3)
    score_threshold: float = Field(0.05, ge=0, lt=1)
    region_features: bool = False
    num_regions: int = NUM_REGIONS

    @model_validator(mode="after")
    def _pyramid_fits(self) -> Self:
        """Refuse a pyramid with a level that has no anchors, or whose cells do not fill the film."""
        stride = COARSEST_STRIDES[self.backbone]
        for problem, is_wrong in {
            f"pyramid_channels needs {PYRAMID_LEVELS} anchor_sizes or more, one for each level, got "
            f"{len(self.anchor_sizes)}": len(self.anchor_sizes) < PYRAMID_LEVELS,
            f"pyramid_channels with the backbone `{self.backbone}` needs an input_size that is a multiple of {stride}, "
            f"got {self.input_size}": self.input_size % stride != 0,
        }.items():
            if self.pyramid_channels and is_wrong:
                raise ValueError(f"{problem}; or set pyramid_channels to 0")
        return self


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


class GeneratorArchitecture(GrownConfig):
    """GPT-2 with pseudo self-attention on region features.

    Attributes:
        num_layers: Transformer blocks.
        num_heads: Attention heads.
        hidden_size: Width of the blocks.
        vocab_size: Size of the byte-pair vocabulary trained on the training phrases.
        max_length: Longest phrase, tokens, begin and end included.
        feature_size: Length of the region feature it is conditioned on.
        condition_on_findings: Whether region identity and finding flags are conditions beside the region feature.
        condition_on_report: Whether a phrase is also conditioned on what the rest of its report says: of which other
            regions it speaks, and with which flags.
        position_table: ``wpe`` is right; ``wte`` repeats the published weights' lookup.
        dropout: Share of activations dropped in training.
        freeze_language_model: Whether only the image branch learns, as with pretrained language weights.
        num_regions: Regions.
        num_labels: Finding labels per region.
    """

    LATER_FIELDS: ClassVar[frozenset[str]] = frozenset({"condition_on_report"})

    num_layers: int = Field(2, ge=1, le=48)
    num_heads: int = Field(4, ge=1, le=32)
    hidden_size: int = Field(128, ge=16, le=2048)
    vocab_size: int = Field(1024, ge=300, le=60000)
    max_length: int = Field(64, ge=8, le=1024)
    feature_size: int = Field(128, ge=8, le=2048)
    condition_on_findings: bool = True
    condition_on_report: bool = False
    position_table: Literal["wpe", "wte"] = "wpe"
    dropout: float = Field(0.1, ge=0, lt=1)
    freeze_language_model: bool = False
    num_regions: int = NUM_REGIONS
    num_labels: int = NUM_LABELS

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        """Refuse heads of no width, unknown flags of a phrase's own region, and more tokens than positions."""
        if self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads must divide hidden_size, got {self.num_heads} and {self.hidden_size}")
        if self.condition_on_report and not self.condition_on_findings:
            raise ValueError("condition_on_report needs condition_on_findings = true, whose flags describe a report")
        if self.position_table == "wte" and self.vocab_size < self.max_length:
            raise ValueError("position_table = wte looks positions up among words: vocab_size >= max_length is needed")
        return self


class DecodingSettings(FrozenConfig):
    """How phrases are searched.

    Attributes:
        num_beams: Hypotheses kept per phrase; 1 is greedy.
        length_penalty: Power of the length that divides a hypothesis' log-probability; the paper's 1 favours long ones.
        max_tokens: Longest phrase, begin token included; the generator's own limit where that is less.
        no_repeat_ngram: Length of a run of tokens that may not come twice in a phrase; 0 = off.
        follow_flags: Whether, of a phrase's hypotheses, the one is taken whose words state the finding flags best that
            it was conditioned on; otherwise the likeliest.
        num_slots: Phrases computed at once at most; more is faster where there are many, and takes more memory. A GPU
            computes as many as wait and fit into its memory, whatever is set here.
        precision: ``exact`` computes in float32; ``fast`` rounds weights to 8 bits on a CPU and to bfloat16 on a GPU,
            which changes some phrases.
        rerank: Whether, of the hypotheses that state the flags equally well, the one is taken whose words the CLIP
            stage finds most like the film; otherwise the likeliest.
        reconcile: Whether drafts state the findings of the whole film: what the regions show is first reconciled with
            what film and regions say together, or with the film's labels alone where the bundle has no classifier over
            both. A bundle that is assembled does so where validation films gain by it, unless its form says.
        compat: ``rgrg`` allows what the paper's search allows, an empty phrase and placeholders, and makes reports as
            the paper does: repeats dropped, nothing reworded, no impression.
    """

    num_beams: int = Field(4, ge=1, le=16)
    length_penalty: float = Field(0.7, ge=0, le=4)
    max_tokens: int = Field(300, ge=2, le=1024)
    no_repeat_ngram: int = Field(16, ge=0, le=64)
    follow_flags: bool = True
    num_slots: int = Field(32, ge=1, le=1024)
    precision: Precision = "exact"
    rerank: bool = False
    reconcile: bool = False
    compat: Compat = "none"


class ClipArchitecture(FrozenConfig):
    """Image tower, text tower, projections and label head.

    Attributes:
        image_tower: ``conv`` is a small network from scratch, ``resnet50`` the paper's, ``swin`` a Swin transformer
            (its default sizes but for ``image_width`` are Swin-T's), ``vit`` the image tower of OpenAI's CLIP.
        input_size: Side of the square input, pixels.
        pixel_scale: Grey values 0..255 are divided by it before mean and deviation are applied.
        pixel_mean: Mean of scaled grey values; one for all channels, or three (not for ``conv``).
        pixel_std: Their standard deviation, as many.
        image_width: Base channels of ``conv``, channels of the first stage of ``swin``, width of ``vit``.
        image_layers: Blocks per stage of ``swin``; one number for ``vit``.
        image_heads: Attention heads, as many numbers as ``image_layers``.
        patch_size: Side of the patches of ``swin`` and ``vit``, pixels.
        window_size: Side of the attention windows of ``swin``, patches.
        image_pooling: What ``swin`` says of a whole film: the mean of its places, or the first place, as published.
        text_tower: ``bert`` sees the whole text, ``clip`` is the text tower of OpenAI's CLIP and sees what came before;
            with ``none`` there are no text tower and no projections, only films are read.
        text_layers: Transformer blocks of the text tower.
        text_heads: Attention heads.
        text_hidden_size: Width of the text tower.
        text_vocab_size: Size of the vocabulary trained on the training reports.
        max_text_length: Longest text, tokens.
        text_positions: Length of the table of positions; 0 = ``max_text_length``.
        text_types: Length of the table of segment types of ``bert``, of which only the first is used.
        text_dropout: Share of states dropped in the text tower in training; above 0 costs much time on a CPU.
        projection: ``linear``, or ``mlp``: a second layer beside the first, dropout and normalisation.
        projection_bias: Whether a linear projection adds a bias.
        projection_size: Length of the shared embedding.
        projects_evidence: Whether the image projection sees what the label head found, beside the film's feature.
        label_head: ``places`` sums what each place of the film says, ``linear`` reads the film's feature alone,
            ``none`` reads no labels.
        head_dropout: Share of raw features dropped before the label head in training.
        num_labels: Outputs of the label head.
        head_moves_tower: Whether label losses train the image tower; otherwise the head is a probe that learns beside
            it.
        clamp_temperature: Whether the inverse temperature stays at most 100 (CLIP); CXR-CLIP lets it run.
        logit_bias: Whether a learnt bias is added to similarities, which the sigmoid loss needs.
    """

    image_tower: Literal["conv", "resnet50", "swin", "vit"] = "conv"
    input_size: int = Field(128, ge=32, le=1024)
    pixel_scale: float = Field(255.0, gt=0)
    pixel_mean: tuple[float, ...] = Field((0.471,), min_length=1, max_length=3)
    pixel_std: Annotated[tuple[float, ...], POSITIVE] = Field((0.302,), min_length=1, max_length=3)
    image_width: int = Field(24, ge=4, le=2048)
    image_layers: Annotated[tuple[int, ...], POSITIVE] = Field((2, 2, 6, 2), min_length=1, max_length=8)
    image_heads: Annotated[tuple[int, ...], POSITIVE] = Field((3, 6, 12, 24), min_length=1, max_length=8)
    patch_size: int = Field(4, ge=1, le=64)
    window_size: int = Field(7, ge=1, le=64)
    image_pooling: Literal["mean", "token0"] = "mean"
    text_tower: Literal["bert", "clip", "none"] = "bert"
    text_layers: int = Field(2, ge=1, le=24)
    text_heads: int = Field(4, ge=1, le=32)
    text_hidden_size: int = Field(128, ge=16, le=2048)
    text_vocab_size: int = Field(1024, ge=300, le=60000)
    max_text_length: int = Field(96, ge=8, le=512)
    text_positions: int = Field(0, ge=0, le=2048)
    text_types: int = Field(1, ge=1, le=8)
    text_dropout: float = Field(0.0, ge=0, lt=1)
    projection: Literal["linear", "mlp"] = "linear"
    projection_bias: bool = True
    projection_size: int = Field(128, ge=8, le=2048)
    projects_evidence: bool = True
    label_head: Literal["places", "linear", "none"] = "places"
    head_dropout: float = Field(0.2, ge=0, lt=1)
    num_labels: int = Field(NUM_LABELS, ge=0)
    head_moves_tower: bool = True
    clamp_temperature: bool = True
    logit_bias: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse sizes that no network can have."""
        for problem, is_wrong in {
            "pixel_mean and pixel_std must have one value each, or three": (
                len(self.pixel_mean) != len(self.pixel_std) or len(self.pixel_mean) == 2
            ),
            "the tower `conv` takes one pixel_mean": self.image_tower == "conv" and len(self.pixel_mean) > 1,
            "image_layers and image_heads must have the same length": len(self.image_layers) != len(self.image_heads),
            "the tower `vit` takes one number in image_layers and image_heads": (
                self.image_tower == "vit" and len(self.image_layers) != 1
            ),
            "patch_size must divide input_size for the tower `vit`": (
                self.image_tower == "vit" and self.input_size % self.patch_size != 0
            ),
            "image_heads must divide the width of their stage": not self._heads_fit(),
            "text_heads must divide text_hidden_size": self.text_hidden_size % self.text_heads != 0,
            "text_positions is shorter than max_text_length": 0 < self.text_positions < self.max_text_length,
            "num_labels is 0 with label_head `none`, and only then": (
                (self.label_head == "none") != (self.num_labels == 0)
            ),
            "without a label head there is no evidence: set projects_evidence to false": (
                self.label_head == "none" and self.projects_evidence
            ),
            "label_head `linear` needs a tower whose places look like the whole film, not `conv`": (
                self.label_head == "linear" and self.image_tower == "conv"
            ),
        }.items():
            if is_wrong:
                raise ValueError(problem)
        return self

    def _heads_fit(self) -> bool:
        if self.image_tower not in ("swin", "vit"):
            return True
        return all(self.image_width * 2**stage % heads == 0 for stage, heads in enumerate(self.image_heads))


class FusionSettings(GrownConfig):
    """The fused classifier: how it is calibrated on validation films, and where its labels begin.

    Attributes:
        calibration: ``temperature`` or ``isotonic`` for every label; ``auto`` takes, label by label, what does better
            on validation films left out, and temperature where films are few.
        operating_point: ``f1`` takes each label's threshold for the best F1, ``specificity`` for a fixed specificity.
        specificity: Least share of films without a label that stay without it, 0..1; with ``specificity`` only.
        max_films: Most validation films that are drafted for the fit; 0 leaves the classifier out of the bundle.
        unmentioned_absent: Whether findings that a film's labels do not mention are absent, not unknown.
    """

    LATER_FIELDS: ClassVar[frozenset[str]] = frozenset({"unmentioned_absent"})

    calibration: Literal["auto", "temperature", "isotonic"] = Field(
        "auto", title="Calibration", json_schema_extra={"position": 0}
    )
    operating_point: Literal["f1", "specificity"] = Field(
        "f1", title="Operating point", json_schema_extra={"position": 1}
    )
    specificity: float = Field(0.9, gt=0, lt=1, title="Specificity", json_schema_extra={"position": 2})
    max_films: int = Field(2000, ge=0, title="Validation films", json_schema_extra={"position": 3})
    unmentioned_absent: bool = Field(False, title="Unmentioned is absent", json_schema_extra={"position": 4})
