"""Settings of the four training stages as plain values: loop, augmentation, losses, and what a batch is made of.

A preset and a recipe give them (``crrg.config.presets``), and the form of a training changes them
(``crrg.config.overrides``).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from crrg.config.base import FrozenConfig, GrownConfig
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
        accumulate: Batches per step, so that a step sees as many items as memory forbids. What is known of them counts
            as in one batch of all; studies are compared with each other within each batch.
        learning_rate: Highest learning rate of the schedule.
        weight_decay: AdamW's decay.
        warmup_share: Share of the steps in which the rate rises linearly.
        schedule: ``one_cycle`` and ``cosine`` fall to zero, ``constant`` stays.
        clip_norm: Gradient norm above which gradients are scaled down; 0 = off.
        ema_decay: Decay of a moving average of the weights, which is then validated and kept; 0 = off.
        freeze_normalisation: Whether batch normalisation keeps the statistics and weights it starts with: for batches
            of a few films and weights that were trained before.
        validate_every: Steps between scores on validation films, of which the best weights are kept; the last step is
            scored in any case. 0 = only the last weights are measured. What the score is says each stage.
        patience: Scores without a better one after which training ends; 0 = never. Where no film can be scored, it
            does not end before its time.
        log_every: Steps between logged losses.
        checkpoint_every_s: Least seconds between checkpoints of the full training state, and at least twenty times
            what the last one took.
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


class Augmentation(GrownConfig):
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
        unmoved_share: Share of films that are neither shifted nor scaled nor stretched.
        unexposed_share: Share of films whose exposure, contrast and brightness stay.
        noiseless_share: Share of films that no noise is added to.
        least_noise: Smallest standard deviation of added noise. With one, the variance is drawn evenly, as published,
            else the standard deviation.
    """

    LATER_FIELDS: ClassVar[frozenset[str]] = frozenset(
        {"unmoved_share", "unexposed_share", "noiseless_share", "least_noise"}
    )

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
    unmoved_share: float = Field(0.0, ge=0, le=1)
    unexposed_share: float = Field(0.0, ge=0, le=1)
    noiseless_share: float = Field(0.0, ge=0, le=1)
    least_noise: float = Field(0.0, ge=0, le=50)

    @model_validator(mode="after")
    def _noise_is_in_order(self) -> Self:
        if self.least_noise > self.noise:
            raise ValueError("least_noise is the smallest noise; set it to noise at most")
        return self

    @model_validator(mode="after")
    def _crops_are_in_order(self) -> Self:
        smallest, largest = self.crop_area
        if not 0 <= smallest <= largest < math.inf:
            raise ValueError(
                "crop_area is the smallest share of a film that a crop keeps and the largest, both 0 or more, got "
                f"({smallest:g}, {largest:g})"
            )
        return self


class DetectorTraining(FrozenConfig):
    """Detector stage: network, loop and augmentation."""

    architecture: DetectorArchitecture = DetectorArchitecture()
    loop: LoopConfig = LoopConfig()
    augmentation: Augmentation = Augmentation()


class SelectorTraining(GrownConfig):
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
        unmentioned_absent: Whether findings that a film's labels do not mention are absent, not unknown; for labels
            that were read from reports.
    """

    LATER_FIELDS: ClassVar[frozenset[str]] = frozenset({"unmentioned_absent"})

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
    unmentioned_absent: bool = False


class GeneratorTraining(GrownConfig):
    """Generator stage: network, loop, what a batch is made of, and how drafts are decoded.

    Attributes:
        abnormal_share: Share of abnormal phrases in what is trained on, so that drafts do not collapse to normal ones.
        flag_dropout: Share of phrases whose finding flags are hidden, so that the region feature is used as well.
        predicted_flag_share: Share of phrases that see the selector's flags instead of those of their own words.
        text_only_share: Share of sentences of reports without a film, learnt without any condition; only where there
            are such reports.
        num_length_buckets: Groups of similar length that batches are drawn from.
        num_validation_films: Most validation films that are drafted and scored, spread over the split.
        lora_rank: Rank of the updates that attention and feed-forward layers of a frozen language model learn, and that
            are part of its weights afterwards; 0 = none.
        decoding: How drafts are decoded.
    """

    LATER_FIELDS: ClassVar[frozenset[str]] = frozenset({"lora_rank"})

    architecture: GeneratorArchitecture = GeneratorArchitecture()
    loop: LoopConfig = LoopConfig()
    abnormal_share: float = Field(0.5, gt=0, lt=1)
    flag_dropout: float = Field(0.1, ge=0, le=1)
    predicted_flag_share: float = Field(0.15, ge=0, le=1)
    text_only_share: float = Field(0.1, ge=0, lt=1)
    num_length_buckets: int = Field(12, ge=1, le=64)
    num_validation_films: int = Field(200, ge=1)
    lora_rank: int = Field(0, ge=0, le=256)
    decoding: DecodingSettings = DecodingSettings()


class ClipTraining(GrownConfig):
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
        unmentioned_absent: Whether findings that a film's labels do not mention are absent, not unknown; for labels
            that were read from reports.
        text_rate: Share of the loop's learning rate that the text tower takes: a transformer from scratch comes to say
            the same of every text under rates that a convolutional image tower is fastest with.
        excerpt_share: Share of texts that are a few sentences of the report; the rest are whole (not of sections).
        draft_share: Share of films whose report is replaced by a draft, where drafts are given (joint stage).
        select_by: What the best weights are chosen by, where the loop validates: the label head's AUC over findings, or
            the contrastive loss (paper).
        num_epochs: Times each study is seen, where the form names no number of steps; 0 = the loop's steps.
        paraphrases: JSON file of sentence to a list of other wordings that were made elsewhere, for example by
            translation there and back, on the machine that trains; empty words sentences by rules.
    """

    LATER_FIELDS: ClassVar[frozenset[str]] = frozenset({"unmentioned_absent"})

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
    unmentioned_absent: bool = False
    text_rate: float = Field(1.0, gt=0, le=1)
    excerpt_share: float = Field(0.5, ge=0, le=1)
    draft_share: float = Field(0.5, ge=0, le=1)
    select_by: Literal["findings_auc", "contrastive_loss"] = "findings_auc"
    num_epochs: int = Field(0, ge=0)
    paraphrases: str = ""

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


class PresetTraining(FrozenConfig):
    """All four stages at one size."""

    detector: DetectorTraining
    selector: SelectorTraining
    generator: GeneratorTraining
    clip: ClipTraining
