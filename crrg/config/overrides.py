"""Changes of the stages' settings, block by block: what a form may set beside preset and recipe.

A field that is not given keeps the value of preset and recipe. What a value means, and between which limits it may lie,
is said by the settings that are changed (``crrg.config.stages``); ``changed`` puts both together.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from crrg.config.base import Compat, FrozenConfig, describe_form, field_help
from crrg.config.contrast import ContrastConfig, SamplingConfig
from crrg.config.models import (
    ClipArchitecture,
    DecodingSettings,
    DetectorArchitecture,
    GeneratorArchitecture,
    SelectorArchitecture,
)
from crrg.config.stages import (
    Augmentation,
    ClipTraining,
    DetectorTraining,
    GeneratorTraining,
    LoopConfig,
    SelectorTraining,
)
from crrg.errors import ConfigError

Settings = TypeVar("Settings", bound=FrozenConfig)


def describe_changes(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Put place, title and help of each field into a block's JSON schema; help is that of the settings it changes.

    Args:
        schema: Schema of the block; changed.
        model: The block.
    """
    describe_form(schema, model)
    help_texts = field_help(model.of) if issubclass(model, Overrides) else {}
    for position, (name, field) in enumerate(schema.get("properties", {}).items()):
        field["position"] = position
        field["title"] = name.replace("_", " ").capitalize()
        field.setdefault("description", help_texts.get(name, ""))


class Overrides(FrozenConfig):
    """A block of changes.

    Attributes:
        of: The settings it changes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=describe_changes)
    of: ClassVar[type[FrozenConfig]]

    @model_validator(mode="before")
    @classmethod
    def _knows(cls, values: Any) -> Any:
        unknown = sorted(set(values) - set(cls.model_fields)) if isinstance(values, dict) else []
        if unknown:
            raise ValueError(f"no such field: {', '.join(unknown)}; this block has {', '.join(cls.model_fields)}")
        return values

    def given(self) -> dict[str, Any]:
        """Return the fields that are given, blocks in it included."""
        found: dict[str, Any] = {}
        for name, value in self:
            inner = value.given() if isinstance(value, Overrides) else value
            if inner is not None and inner != {}:
                found[name] = inner
        return found


def changed(settings: Settings, changes: Overrides, block: str) -> Settings:
    """Return settings with a block of changes.

    Args:
        settings: Of preset and recipe.
        changes: What the form sets.
        block: Name of the block in the form, for messages.

    Raises:
        ConfigError: A value is out of its limits, or does not go with the others; the message names the field.
    """
    given = changes.given()
    if not given:
        return settings
    try:
        return type(settings).model_validate(_put_in(settings.model_dump(), given))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, (block, *each['loc'])))}: {each['msg']}" for each in error.errors()]
        raise ConfigError("; ".join(problems), block) from None


def _put_in(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return values with those that are given in their place, dictionary in dictionary."""
    put = {name: _put_in(values[name], value) if isinstance(value, dict) else value for name, value in given.items()}
    return {**values, **put}


class LoopOverrides(Overrides):
    """Changes of a stage's training loop; steps and learning rate of all stages are fields of the form itself."""

    of: ClassVar[type[FrozenConfig]] = LoopConfig
    num_steps: int | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    warmup_share: float | None = None
    schedule: Literal["one_cycle", "cosine", "constant"] | None = None
    clip_norm: float | None = None
    ema_decay: float | None = None
    freeze_normalisation: bool | None = None
    validate_every: int | None = None
    patience: int | None = None
    log_every: int | None = None
    checkpoint_every_s: float | None = None


class AugmentationOverrides(Overrides):
    """Changes of how training films are varied."""

    of: ClassVar[type[FrozenConfig]] = Augmentation
    scale: float | None = None
    stretch: float | None = None
    shift: float | None = None
    gamma: float | None = None
    contrast: float | None = None
    noise: float | None = None
    crop_area: tuple[float, float] | None = None
    clahe_share: float | None = None
    brightness: float | None = None
    contrast_about: Literal["middle", "mean"] | None = None
    unmoved_share: float | None = None
    unexposed_share: float | None = None
    noiseless_share: float | None = None
    least_noise: float | None = None


class DetectorArchitectureOverrides(Overrides):
    """Changes of the detector's network."""

    of: ClassVar[type[FrozenConfig]] = DetectorArchitecture
    backbone: Literal["conv", "resnet50"] | None = None
    input_size: int | None = None
    width: int | None = None
    resnet_width: int | None = None
    pyramid_channels: int | None = None
    anchor_sizes: tuple[int, ...] | None = None
    anchor_ratios: tuple[float, ...] | None = None
    roi_size: int | None = None
    roi_samples: int | None = None
    roi_channels: int | None = None
    representation_size: int | None = None
    num_proposals: int | None = None
    num_candidates: int | None = None
    num_training_proposals: int | None = None
    num_training_rois: int | None = None
    positive_share: float | None = None
    added_boxes: Literal["truth", "jittered", "none"] | None = None
    spatial_prior: bool | None = None
    num_refinements: int | None = None
    score_threshold: float | None = None


class SelectorArchitectureOverrides(Overrides):
    """Changes of the selector's network; its feature's length must be the generator's."""

    of: ClassVar[type[FrozenConfig]] = SelectorArchitecture
    backbone: Literal["conv", "resnet50"] | None = None
    input_size: int | None = None
    width: int | None = None
    detail_channels: int | None = None
    roi_size: int | None = None
    roi_samples: int | None = None
    keep_layout: bool | None = None
    margin: float | None = None
    feature_size: int | None = None
    dropout: float | None = None
    region_embedding: bool | None = None


class GeneratorArchitectureOverrides(Overrides):
    """Changes of the generator's network; the feature's length must be the selector's."""

    of: ClassVar[type[FrozenConfig]] = GeneratorArchitecture
    num_layers: int | None = None
    num_heads: int | None = None
    hidden_size: int | None = None
    vocab_size: int | None = None
    max_length: int | None = None
    feature_size: int | None = None
    condition_on_findings: bool | None = None
    condition_on_report: bool | None = None
    dropout: float | None = None


class ClipArchitectureOverrides(Overrides):
    """Changes of CLIP's network; what does not go together is refused."""

    of: ClassVar[type[FrozenConfig]] = ClipArchitecture
    image_tower: Literal["conv", "resnet50", "swin", "vit"] | None = None
    input_size: int | None = None
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    image_width: int | None = None
    image_layers: tuple[int, ...] | None = None
    image_heads: tuple[int, ...] | None = None
    patch_size: int | None = None
    window_size: int | None = None
    image_pooling: Literal["mean", "token0"] | None = None
    text_tower: Literal["bert", "clip"] | None = None
    text_layers: int | None = None
    text_heads: int | None = None
    text_hidden_size: int | None = None
    text_vocab_size: int | None = None
    max_text_length: int | None = None
    text_dropout: float | None = None
    projection: Literal["linear", "mlp"] | None = None
    projection_bias: bool | None = None
    projection_size: int | None = None
    projects_evidence: bool | None = None
    label_head: Literal["places", "linear"] | None = None
    head_dropout: float | None = None
    head_moves_tower: bool | None = None
    clamp_temperature: bool | None = None
    logit_bias: bool | None = None


class ContrastOverrides(Overrides):
    """Changes of the contrastive loss."""

    of: ClassVar[type[FrozenConfig]] = ContrastConfig
    kind: Literal["softmax", "sigmoid"] | None = None
    view_weight: float | None = None
    text_weight: float | None = None
    label_smoothing: float | None = None
    multi_positive: bool | None = None
    across_ranks: bool | None = None
    cached_rows: int | None = None


class SamplingOverrides(Overrides):
    """Changes of what a study shows and says at one step."""

    of: ClassVar[type[FrozenConfig]] = SamplingConfig
    num_views: Literal[1, 2] | None = None
    laterals: bool | None = None
    num_texts: Literal[1, 2] | None = None
    text_source: Literal["report", "sections"] | None = None
    shuffle_sentences: bool | None = None
    paraphrase_share: float | None = None


class DecodingOverrides(Overrides):
    """Changes of how drafts are searched."""

    of: ClassVar[type[FrozenConfig]] = DecodingSettings
    num_beams: int | None = None
    length_penalty: float | None = None
    max_tokens: int | None = None
    no_repeat_ngram: int | None = None
    follow_flags: bool | None = None
    num_slots: int | None = None
    precision: Literal["exact", "fast"] | None = None
    rerank: bool | None = None
    reconcile: bool | None = None
    compat: Compat | None = None


class DetectorOverrides(Overrides):
    """Changes of the detector stage; an empty field keeps the preset's value.

    Attributes:
        loop: Training loop of this stage alone.
        architecture: Network of this stage.
        augmentation: Variation of training films.
    """

    of: ClassVar[type[FrozenConfig]] = DetectorTraining
    loop: LoopOverrides = LoopOverrides()
    architecture: DetectorArchitectureOverrides = DetectorArchitectureOverrides()
    augmentation: AugmentationOverrides = AugmentationOverrides()


class SelectorOverrides(Overrides):
    """Changes of the selector stage; an empty field keeps the preset's value.

    Attributes:
        loop: Training loop of this stage alone.
        architecture: Network of this stage.
        augmentation: Variation of training films.
    """

    of: ClassVar[type[FrozenConfig]] = SelectorTraining
    loop: LoopOverrides = LoopOverrides()
    architecture: SelectorArchitectureOverrides = SelectorArchitectureOverrides()
    augmentation: AugmentationOverrides = AugmentationOverrides()
    selection_pos_weight: float | None = None
    abnormal_pos_weight: float | None = None
    finding_pos_weight: float | None = None
    finding_loss_weight: float | None = None
    study_loss_weight: float | None = None
    box_jitter: float | None = None
    balanced_share: float | None = None
    unmentioned_absent: bool | None = None


class GeneratorOverrides(Overrides):
    """Changes of the generator stage; an empty field keeps the preset's value.

    Attributes:
        loop: Training loop of this stage alone.
        architecture: Network of this stage.
        decoding: How validation films are drafted, and how a bundle drafts that says nothing else.
    """

    of: ClassVar[type[FrozenConfig]] = GeneratorTraining
    loop: LoopOverrides = LoopOverrides()
    architecture: GeneratorArchitectureOverrides = GeneratorArchitectureOverrides()
    decoding: DecodingOverrides = DecodingOverrides()
    abnormal_share: float | None = None
    flag_dropout: float | None = None
    predicted_flag_share: float | None = None
    text_only_share: float | None = None
    num_length_buckets: int | None = None
    num_validation_films: int | None = None
    lora_rank: int | None = None


class ClipOverrides(Overrides):
    """Changes of the stages clip and joint; an empty field keeps the value of preset and recipe.

    Attributes:
        loop: Training loop of these stages alone.
        architecture: Towers, projections and label head.
        augmentation: Variation of training films.
        contrast: Contrastive loss, gradient caching included.
        sampling: Views and texts of a study at one step.
    """

    of: ClassVar[type[FrozenConfig]] = ClipTraining
    loop: LoopOverrides = LoopOverrides()
    architecture: ClipArchitectureOverrides = ClipArchitectureOverrides()
    augmentation: AugmentationOverrides = AugmentationOverrides()
    contrast: ContrastOverrides = ContrastOverrides()
    sampling: SamplingOverrides = SamplingOverrides()
    label_loss_weight: float | None = None
    contrastive_loss_weight: float | None = None
    prompt_loss_weight: float | None = None
    place_loss_weight: float | None = None
    uncertain: Literal["mask", "soft"] | None = None
    unmentioned_absent: bool | None = None
    text_rate: float | None = None
    excerpt_share: float | None = None
    draft_share: float | None = None
    select_by: Literal["findings_auc", "contrastive_loss"] | None = None
    num_epochs: int | None = None
    paraphrases: str | None = None
