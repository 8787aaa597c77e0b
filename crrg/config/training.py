"""What may be set about training: the loop, the stages, and the form of each stage's flow."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from crrg.config.base import Device, FrozenConfig, Preset, Recipe
from crrg.config.contrast import ContrastConfig, SamplingConfig
from crrg.config.models import (
    ClipArchitecture,
    DecodingSettings,
    DetectorArchitecture,
    GeneratorArchitecture,
    SelectorArchitecture,
)


class LoopConfig(FrozenConfig):
    """Settings of the training loop, the same for every stage.

    Attributes:
        num_steps: Optimiser steps.
        batch_size: Items per batch (films, or phrases for the generator).
        accumulate: Batches per step; their mean loss is followed, so that a step sees as many items as memory forbids.
        learning_rate: Highest learning rate of the schedule.
        weight_decay: AdamW's decay.
        warmup_share: Share of the steps in which the rate rises linearly.
        schedule: ``one_cycle`` and ``cosine`` fall to zero, ``constant`` stays.
        clip_norm: Gradient norm above which gradients are scaled down; 0 = off.
        ema_decay: Decay of a moving average of the weights, which is then validated and kept; 0 = off.
        freeze_normalisation: Whether batch normalisation keeps the statistics and weights it starts with: for batches
            of a few films and weights that were trained before.
        validate_every: Steps between scores on validation films, of which the best weights are kept; 0 = only the last
            weights are measured. What the score is says each stage.
        patience: Scores without a better one after which training ends; 0 = never.
        log_every: Steps between logged losses.
        checkpoint_every_s: Seconds between checkpoints of the full training state.
    """

    num_steps: int = Field(300, ge=1)
    batch_size: int = Field(16, ge=1)
    accumulate: int = Field(1, ge=1, le=1024)
    learning_rate: float = Field(2e-3, gt=0, le=1)
    weight_decay: float = Field(1e-2, ge=0)
    warmup_share: float = Field(0.1, ge=0, le=0.9)
    schedule: Literal["one_cycle", "cosine", "constant"] = "cosine"
    clip_norm: float = Field(1.0, ge=0)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    freeze_normalisation: bool = False
    validate_every: int = Field(0, ge=0)
    patience: int = Field(0, ge=0)
    log_every: int = Field(20, ge=1)
    checkpoint_every_s: float = Field(60.0, gt=0)


class Augmentation(FrozenConfig):
    """Random changes of training films; never a mirror image and never a turn.

    Attributes:
        scale: Largest relative change of size.
        stretch: Largest relative change of each side on its own.
        shift: Largest shift, share of the film's side.
        gamma: Largest change of exposure, natural logarithm of gamma.
        contrast: Largest relative change of contrast.
        noise: Largest standard deviation of added noise, grey values of 255.
        crop_area: Smallest and largest share of the film that a random crop keeps, as published; both 0 = no crop. A
            share above 1 is never reached, and counts as another try.
        clahe_share: Share of films whose contrast is equalised locally.
        brightness: Largest relative change of brightness.
        contrast_about: Grey value that stays when contrast changes: the middle one, or the film's mean, as published.
    """

    scale: float = Field(0.1, ge=0, le=0.5)
    stretch: float = Field(0.03, ge=0, le=0.3)
    shift: float = Field(0.05, ge=0, le=0.5)
    gamma: float = Field(0.25, ge=0, le=1)
    contrast: float = Field(0.15, ge=0, le=0.9)
    noise: float = Field(5.0, ge=0, le=50)
    crop_area: tuple[float, float] = (0.0, 0.0)
    clahe_share: float = Field(0.0, ge=0, le=1)
    brightness: float = Field(0.0, ge=0, le=0.9)
    contrast_about: Literal["middle", "mean"] = "middle"


class DetectorTraining(FrozenConfig):
    """Detector stage: network, loop and augmentation."""

    architecture: DetectorArchitecture = DetectorArchitecture()
    loop: LoopConfig = LoopConfig()
    augmentation: Augmentation = Augmentation()


class SelectorTraining(FrozenConfig):
    """Selector stage: network, loop, augmentation and the weights of the losses.

    Attributes:
        selection_pos_weight: Weight of a region that has a phrase (paper: 2.2).
        abnormal_pos_weight: Weight of an abnormal region (paper: 6.0).
        finding_pos_weight: Weight of a finding that a region's phrase states.
        finding_loss_weight: Weight of the loss over the findings of regions.
        study_loss_weight: Weight of the loss that compares the strongest region with the film's labels.
        box_jitter: Standard deviation of the random change of each box side in training, share of the box's sides.
        balanced_share: Share of films that are drawn so that every finding of the films' labels comes as often as any
            other; the rest are drawn as they come.
    """

    architecture: SelectorArchitecture = SelectorArchitecture()
    loop: LoopConfig = LoopConfig()
    augmentation: Augmentation = Augmentation()
    selection_pos_weight: float = Field(2.2, gt=0)
    abnormal_pos_weight: float = Field(6.0, gt=0)
    finding_pos_weight: float = Field(3.0, gt=0)
    finding_loss_weight: float = Field(6.0, ge=0)
    study_loss_weight: float = Field(2.0, ge=0)
    box_jitter: float = Field(0.04, ge=0, le=0.5)
    balanced_share: float = Field(0.0, ge=0, le=1)


class GeneratorTraining(FrozenConfig):
    """Generator stage: network, loop, what a batch is made of, and how drafts are decoded.

    Attributes:
        abnormal_share: Share of abnormal phrases in what is trained on, so that drafts do not collapse to normal ones.
        flag_dropout: Share of phrases whose finding flags are hidden, so that the region feature is used as well.
        predicted_flag_share: Share of phrases that see the selector's flags instead of those of their own words.
        text_only_share: Share of sentences of reports without a film, learnt without any condition; only where there
            are such reports.
        num_length_buckets: Groups of similar length that batches are drawn from.
        num_validation_films: Most validation films that are drafted and scored.
        decoding: How drafts are decoded.
    """

    architecture: GeneratorArchitecture = GeneratorArchitecture()
    loop: LoopConfig = LoopConfig()
    abnormal_share: float = Field(0.5, gt=0, lt=1)
    flag_dropout: float = Field(0.1, ge=0, le=1)
    predicted_flag_share: float = Field(0.15, ge=0, le=1)
    text_only_share: float = Field(0.1, ge=0, lt=1)
    num_length_buckets: int = Field(12, ge=1, le=64)
    num_validation_films: int = Field(200, ge=1)
    decoding: DecodingSettings = DecodingSettings()


class ClipTraining(FrozenConfig):
    """CLIP stage: towers, loop, augmentation, losses, and what a film's text is made of at each step.

    Attributes:
        architecture: Network.
        loop: Loop.
        contrast: Contrastive loss.
        sampling: What of a study is drawn at each step.
        label_loss_weight: Weight of the label head's loss.
        contrastive_loss_weight: Weight of the contrastive loss.
        prompt_loss_weight: Weight of the loss that asks about each known finding by a denying and an affirming prompt.
        place_loss_weight: Weight of the loss that ties a finding to the regions its report names, where boxes exist.
        uncertain: Uncertain labels are left out (``mask``) or taken as one half (``soft``).
        excerpt_share: Share of texts that are a few sentences of the report; the rest are whole (not of sections).
        draft_share: Share of films whose report is replaced by a draft, where drafts are given (joint stage).
        select_by: What the best weights are chosen by, where the loop validates: the label head's AUC over findings, or
            the contrastive loss (paper).
        num_epochs: Times each study is seen, where the form names no number of steps; 0 = the loop's steps.
    """

    architecture: ClipArchitecture = ClipArchitecture()
    loop: LoopConfig = LoopConfig()
    augmentation: Augmentation = Augmentation()
    contrast: ContrastConfig = ContrastConfig()
    sampling: SamplingConfig = SamplingConfig()
    label_loss_weight: float = Field(1.0, ge=0)
    contrastive_loss_weight: float = Field(0.2, ge=0)
    prompt_loss_weight: float = Field(0.2, ge=0)
    place_loss_weight: float = Field(3.0, ge=0)
    uncertain: Literal["mask", "soft"] = "mask"
    excerpt_share: float = Field(0.5, ge=0, le=1)
    draft_share: float = Field(0.5, ge=0, le=1)
    select_by: Literal["findings_auc", "contrastive_loss"] = "findings_auc"
    num_epochs: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse losses between views or texts that are not drawn, and a sigmoid loss without a bias."""
        weights = (
            self.label_loss_weight,
            self.contrastive_loss_weight,
            self.prompt_loss_weight,
            self.place_loss_weight,
        )
        for problem, is_wrong in {
            "one of the loss weights must be above 0": not any(weights),
            "contrast.view_weight needs sampling.num_views = 2": (
                self.contrast.view_weight > 0 and self.sampling.num_views == 1
            ),
            "contrast.text_weight needs sampling.num_texts = 2": (
                self.contrast.text_weight > 0 and self.sampling.num_texts == 1
            ),
            "contrast.kind `sigmoid` needs architecture.logit_bias = true": (
                self.contrast.kind == "sigmoid" and not self.architecture.logit_bias
            ),
        }.items():
            if is_wrong:
                raise ValueError(problem)
        return self


class JointRounds(FrozenConfig):
    """Rounds of the joint stage, in which CLIP ranks wordings, the generator learns them, and CLIP is trained again.

    Attributes:
        max_rounds: Most rounds; 0 trains CLIP once on reports mixed with drafts, as the paper does.
        num_films: Most training films that are drafted in each round; 0 takes all.
        num_validation_films: Most validation films whose drafts decide whether another round is worth it.
        prefer: ``checked`` takes wordings by CLIP where the labeler finds nothing wrong, ``ranked`` by CLIP alone,
            ``real`` none at all: the generator is trained on with real phrases only, as a control.
        film_flags: Whether drafts' flags are reconciled with the labels of the whole film, in the rounds only.
        generator_steps: Steps of the generator in each round.
        learning_rate: Highest learning rate of these steps.
        preferred_share: Share of these steps that are made of preferred phrases.
        min_gain: A round that gains no more than this over the best one before is the last.
    """

    max_rounds: int = Field(0, ge=0, le=20, title="Rounds (0 = paper's coupling)", json_schema_extra={"position": 0})
    num_films: int = Field(512, ge=0, title="Films per round (0 = all)", json_schema_extra={"position": 1})
    num_validation_films: int = Field(200, ge=1, title="Validation films", json_schema_extra={"position": 2})
    prefer: Literal["checked", "ranked", "real"] = Field(
        "checked", title="Preferred phrases", json_schema_extra={"position": 3}
    )
    film_flags: bool = Field(False, title="Flags of the whole film", json_schema_extra={"position": 4})
    generator_steps: int = Field(60, ge=1, title="Generator steps", json_schema_extra={"position": 5})
    learning_rate: float = Field(1e-4, gt=0, le=1, title="Learning rate", json_schema_extra={"position": 6})
    preferred_share: float = Field(0.5, ge=0, le=1, title="Share of preferred", json_schema_extra={"position": 7})
    min_gain: float = Field(0.0, ge=0, le=1, title="Least gain", json_schema_extra={"position": 8})


class PresetTraining(FrozenConfig):
    """All four stages at one size."""

    detector: DetectorTraining
    selector: SelectorTraining
    generator: GeneratorTraining
    clip: ClipTraining


class InitialWeights(FrozenConfig):
    """Imported weights that stages start from, as folders that `crrg import` wrote, on the machine that trains.

    Weights of a whole stage bring their architecture with them, those of a language model or text tower its sizes and
    vocabulary. Each stage looks at its own fields.

    Attributes:
        detector: Folder of `rgrg`, or of `resnet50` for the backbone; empty starts from random weights.
        generator: Folder of `rgrg`, or of `gpt2` for the language model; empty starts from random weights.
        clip: Folder of `cxr-clip` or `chexzero`, or of `resnet50` for the image tower; empty starts from random ones.
        text_tower: Folder of `bert` for the text tower of the CLIP stages; empty starts from random weights, unless the
            folder before brings one.
        freeze_language_model: Whether the language model stays as it was imported and only what conditions it learns.
    """

    detector: str = Field("", title="Detector", json_schema_extra={"position": 0})
    generator: str = Field("", title="Generator", json_schema_extra={"position": 1})
    clip: str = Field("", title="CLIP or its image tower", json_schema_extra={"position": 2})
    text_tower: str = Field("", title="Text tower", json_schema_extra={"position": 3})
    freeze_language_model: bool = Field(False, title="Freeze language model", json_schema_extra={"position": 4})

    @model_validator(mode="after")
    def _frozen_is_imported(self) -> Self:
        if self.freeze_language_model and not self.generator:
            raise ValueError("a frozen language model learns nothing; name the folder it is imported from as generator")
        return self


class TrainStageConfig(FrozenConfig):
    """Form of one training stage.

    Attributes:
        dataset: Dataset to train on.
        dataset_version: Its version; empty takes the newest.
        preset: Size of the networks and length of the training.
        rounds: Rounds of the joint stage; the other stages have none.
        num_steps: Optimiser steps; 0 takes the preset's.
        learning_rate: Highest learning rate; 0 takes the preset's.
        seed: Seed of weights, order and augmentation.
        device: Where to train; ``auto`` takes a GPU if there is one.
        accumulate: Batches per optimiser step; 0 takes the preset's. Their mean loss counts.
        ema_decay: Decay of a moving average of the weights, which is kept instead of the last ones; 0 = none.
        validate_every: Steps between scores on validation films, the best of which decides what is kept; 0 = the last.
        patience: Scores without a better one after which the stage ends early; 0 = never.
        recipe: How the CLIP stages learn: ``crrg`` is ours, ``paper`` that of CXR-CLIP, with ``base`` at its sizes and
            schedule and otherwise at the preset's; the other stages know one recipe.
        initial_weights: Imported weights to start from instead of random ones.
        num_ranks: Processes that train together, each with batches of the preset's size, and with a GPU of its own
            where there are any; for detector and clip.
        sync_normalisation: Whether batch normalisation takes its statistics over all ranks; on GPUs only, on CPUs
            frozen normalisation is the way.
        freeze_normalisation: Whether batch normalisation keeps the statistics and weights it starts with, as suits
            imported weights and small batches.
    """

    dataset: str = Field("demo", title="Dataset", min_length=1, json_schema_extra={"position": 0})
    preset: Preset = Field("tiny", title="Preset", json_schema_extra={"position": 1})
    num_steps: int = Field(0, ge=0, le=10_000_000, title="Steps (0 = preset)", json_schema_extra={"position": 2})
    learning_rate: float = Field(0.0, ge=0, le=1, title="Learning rate (0 = preset)", json_schema_extra={"position": 3})
    seed: int = Field(0, ge=0, title="Seed", json_schema_extra={"position": 4})
    device: Device = Field("auto", title="Device", json_schema_extra={"position": 5})
    dataset_version: str = Field("", title="Dataset version (empty = newest)", json_schema_extra={"position": 6})
    accumulate: int = Field(0, ge=0, le=1024, title="Batches per step (0 = preset)", json_schema_extra={"position": 7})
    ema_decay: float = Field(0.0, ge=0, lt=1, title="Averaging of weights (0 = off)", json_schema_extra={"position": 8})
    validate_every: int = Field(0, ge=0, title="Validate every (steps, 0 = end)", json_schema_extra={"position": 9})
    patience: int = Field(0, ge=0, title="Patience (scores, 0 = off)", json_schema_extra={"position": 10})
    rounds: JointRounds = Field(JointRounds(), title="Joint rounds", json_schema_extra={"position": 11})
    recipe: Recipe = Field("crrg", title="Recipe of the CLIP stages", json_schema_extra={"position": 12})
    initial_weights: InitialWeights = Field(
        InitialWeights(), title="Weights to start from", json_schema_extra={"position": 13}
    )
    num_ranks: int = Field(1, ge=1, le=64, title="Ranks", json_schema_extra={"position": 14})
    sync_normalisation: bool = Field(
        False, title="Batch normalisation across ranks", json_schema_extra={"position": 15}
    )
    freeze_normalisation: bool = Field(False, title="Freeze batch normalisation", json_schema_extra={"position": 16})

    @model_validator(mode="after")
    def _patience_has_scores(self) -> TrainStageConfig:
        if self.patience and not self.validate_every:
            raise ValueError("patience counts validation scores; set validate_every as well, or patience to 0")
        return self

    @model_validator(mode="after")
    def _ranks_share_statistics(self) -> TrainStageConfig:
        if self.sync_normalisation and self.num_ranks == 1:
            raise ValueError("one rank has no statistics to share; set num_ranks, or sync_normalisation to false")
        return self

    def loop(self, preset_loop: LoopConfig) -> LoopConfig:
        """Return the preset's loop with this form's changes."""
        names = (
            "num_steps", "learning_rate", "accumulate", "ema_decay", "validate_every", "patience",
            "freeze_normalisation",
        )  # fmt: skip
        changes = {name: getattr(self, name) for name in names if getattr(self, name)}
        return LoopConfig.model_validate({**preset_loop.model_dump(), **changes})
