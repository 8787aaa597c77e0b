"""What may be set about running: decoding, the night, and the forms of retraining, evaluation, promotion and demo."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from crrg.config.ae_titles import AeTitle
from crrg.config.base import STAGES, TRAINABLE, Device, FrozenConfig, Preset, Recipe, Stage
from crrg.config.dates import OptionalDate, OptionalZone
from crrg.config.evidence import EvidenceSettings
from crrg.config.fan_out import FanOut
from crrg.config.models import DecodingSettings as DecodingSettings
from crrg.config.models import FusionSettings
from crrg.config.overrides import (
    ClipOverrides,
    DecodingOverrides,
    DetectorOverrides,
    GeneratorOverrides,
    SelectorOverrides,
)
from crrg.config.training import InitialWeights, JointRounds, TrainStageConfig
from crrg.config.watch import WatchSettings

CHAMPION_MODEL = "models:/crrg-pipeline@champion"
"""What a form names if nothing else is given; the alias itself is ``crrg.registry.aliases.CHAMPION``."""


class NightlyConfig(FrozenConfig):
    """Form of a night: what is new in the inbox becomes drafts and labels.

    Attributes:
        inbox: URL or folder of the inbox; only read, never changed.
        date: The night's date, ``YYYY-MM-DD``; empty takes the day of the schedule, or today.
        timezone: Zone in which that day is meant, e.g. ``Europe/Berlin``; empty takes this machine's.
        model: ``models:/crrg-pipeline@champion``, a version such as ``3``, or a bundle folder.
        limit: Most new objects a night takes, in key order; 0 takes all.
        settle_s: Objects younger than this many seconds wait, since they may still be being written, and so does all
            of their study.
        max_failure_rate: Highest share of quarantined inputs of a good night, 0..1; out-of-scope ones are left out.
        resend_policy: What happens to an image whose identifier was drafted on an earlier night with other pixels or
            for another patient: ``conflict`` quarantines it, ``supersede`` drafts it and marks the older draft as
            superseded.
        image_size: Longer side of the decoded films, pixels; 0 takes that of the films that the models were trained on,
            and another one is refused where the bundle says which it was.
        shard_size: Inbox objects per shard, the unit of fan-out and of resuming.
        num_workers: Decoder processes; 0 takes what suits this machine.
        device: Where the models run; ``auto`` takes a GPU if there is one.
        fan_out: Where shards run; every process that runs one holds the models.
        reread_date: Also read again what was read on this night by another bundle, ``YYYY-MM-DD``; empty for none.
        reread_studies: Also read these studies again, by pseudonym, where another bundle drafted them.
        reread_older_than_bundle: Also read again what a bundle below this version of ``crrg-pipeline`` drafted, or one
            that was never registered; 0 for none.
        watch: When a night differs from what its models were trained on, and what then happens.
        evidence: Whether the page shows what sentences rest on; reads a film once more for every cell of its maps.
    """

    inbox: str = Field(min_length=1, title="Inbox", json_schema_extra={"position": 0})
    date: OptionalDate = Field("", title="Date (empty = today)", json_schema_extra={"position": 1})
    timezone: OptionalZone = Field("", title="Time zone (empty = this machine's)", json_schema_extra={"position": 2})
    model: str = Field(CHAMPION_MODEL, title="Model", min_length=1, json_schema_extra={"position": 3})
    limit: int = Field(0, ge=0, title="Most new films (0 = all)", json_schema_extra={"position": 4})
    settle_s: float = Field(60.0, ge=0, title="Settling time (s)", json_schema_extra={"position": 5})
    max_failure_rate: float = Field(0.2, ge=0, le=1, title="Highest failure rate", json_schema_extra={"position": 6})
    resend_policy: Literal["conflict", "supersede"] = Field(
        "conflict", title="Changed image under a known identifier", json_schema_extra={"position": 7}
    )
    image_size: int = Field(
        0, ge=0, le=2048, title="Longest side (px, 0 = the model's)", json_schema_extra={"position": 8}
    )
    shard_size: int = Field(200, ge=1, le=5000, title="Films per shard", json_schema_extra={"position": 9})
    num_workers: int = Field(0, ge=0, title="Decoder processes (0 = auto)", json_schema_extra={"position": 10})
    device: Device = Field("auto", title="Device", json_schema_extra={"position": 11})
    fan_out: FanOut = Field(FanOut(), title="Where shards run", json_schema_extra={"position": 12})
    reread_date: OptionalDate = Field("", title="Read again: night (empty = none)", json_schema_extra={"position": 13})
    reread_studies: tuple[str, ...] = Field((), title="Read again: studies", json_schema_extra={"position": 14})
    reread_older_than_bundle: int = Field(
        0, ge=0, title="Read again: drafts of versions below (0 = none)", json_schema_extra={"position": 15}
    )
    watch: WatchSettings = Field(WatchSettings(), title="Watch", json_schema_extra={"position": 16})
    evidence: EvidenceSettings = Field(EvidenceSettings(), title="Evidence", json_schema_extra={"position": 17})

    @field_validator("image_size")
    @classmethod
    def _is_a_size(cls, value: int) -> int:
        if 0 < value < 64:
            raise ValueError("give at least 64 pixels, or 0 for the size that the models were trained on")
        return value


class DeliverConfig(FrozenConfig):
    """Form of a delivery: current drafts as FHIR and DICOM under the identifiers of their sources.

    Attributes:
        inbox: URL or folder of the inbox that the nights read; sources are found again there.
        date: Only drafts of this night, ``YYYY-MM-DD``; empty takes all nights.
        studies: Only these studies, by pseudonym; empty takes all.
        forms: Which documents are written.
        send_to: Archive that is sent the DICOM objects, one that the deliverer's ``CRRG_ARCHIVES`` names: ``host:port``
            for C-STORE, ``dicoms://host:port`` for C-STORE over TLS, ``https://…`` for STOW-RS to that DICOMweb root;
            empty sends nothing.
        called_title: The archive's application entity title.
        calling_title: Our application entity title, as the archive knows it.
        again: Whether what was delivered before is delivered again; it replaces what it equals.
        withheld: Whether drafts are delivered, too, that their night withholds: it differs much from training, or they
            are degenerate.
        timezone: Zone in which DICOM documents tell when their draft was made, e.g. ``Europe/Berlin``, unless the
            source says its own; empty takes UTC, never this machine's: the same draft has the same bytes anywhere.
    """

    inbox: str = Field(min_length=1, title="Inbox", json_schema_extra={"position": 0})
    date: OptionalDate = Field("", title="Date (empty = all nights)", json_schema_extra={"position": 1})
    studies: tuple[str, ...] = Field((), title="Studies (none = all)", json_schema_extra={"position": 2})
    forms: tuple[Literal["fhir", "sr", "sc"], ...] = Field(
        ("fhir", "sr", "sc"), min_length=1, title="Documents", json_schema_extra={"position": 3}
    )
    send_to: str = Field("", title="Archive (empty = none)", json_schema_extra={"position": 4})
    called_title: AeTitle = Field("ARCHIVE", title="Archive's AE title", json_schema_extra={"position": 5})
    calling_title: AeTitle = Field("CRRGCLIP", title="Our AE title", json_schema_extra={"position": 6})
    again: bool = Field(False, title="Also what was delivered before", json_schema_extra={"position": 7})
    withheld: bool = Field(False, title="Also what its night withholds", json_schema_extra={"position": 8})
    timezone: OptionalZone = Field("", title="Time zone of documents (empty = UTC)", json_schema_extra={"position": 9})


class Gate(FrozenConfig):
    """What a bundle must reach to become champion; all figures 0..1, on held-out patients.

    Attributes:
        min_region_iou: Lowest mean overlap of found and true region boxes.
        min_label_auc: Lowest mean area under the ROC curve over the findings.
        min_clinical_f1: Lowest micro-F1 of the findings that the drafts state.
        min_zero_shot_auc: Lowest mean area under the ROC curve of zero-shot; a CLIP that says the same of every text
            has 0.5, and every other figure can be good beside it.
        max_drop: Largest fall of region IoU, label AUC or clinical F1 below the champion on the same films.
        max_zero_shot_drop: Largest fall of the zero-shot AUC, which moves more from training to training.
    """

    min_region_iou: float = Field(0.5, ge=0, le=1, title="Lowest region IoU", json_schema_extra={"position": 0})
    min_label_auc: float = Field(0.6, ge=0, le=1, title="Lowest label AUC", json_schema_extra={"position": 1})
    min_clinical_f1: float = Field(0.2, ge=0, le=1, title="Lowest clinical F1", json_schema_extra={"position": 2})
    min_zero_shot_auc: float = Field(0.6, ge=0, le=1, title="Lowest zero-shot AUC", json_schema_extra={"position": 3})
    max_drop: float = Field(0.02, ge=0, le=1, title="Largest fall below champion", json_schema_extra={"position": 4})
    max_zero_shot_drop: float = Field(
        0.1, ge=0, le=1, title="Largest fall of zero-shot AUC", json_schema_extra={"position": 5}
    )


class RetrainConfig(FrozenConfig):
    """Form of a retraining: all stages, evaluation, registration, gate, promotion.

    Attributes:
        dataset: Dataset to train on.
        dataset_version: Its version; empty takes the newest.
        preset: Size of the networks and length of the training.
        num_steps: Optimiser steps of every stage; 0 takes the preset's.
        learning_rate: Highest learning rate of every stage; 0 takes the preset's.
        seed: Seed of weights, order and augmentation.
        joint: Whether CLIP is trained once more on reports mixed with drafts of the training films, and that CLIP
            stands in the bundle.
        device: Where to train; ``auto`` takes a GPU if there is one.
        stages_on: ``here`` trains in this process, ``deployment`` runs each stage as its own deployment
            ``train-<stage>/local``, for example on another machine.
        evaluation_limit: Most films to evaluate on, spread over the test split; 0 takes all of it.
        promote: ``if_gate_passes`` moves the champion alias, ``never`` only registers a candidate.
        gate: What the bundle must reach.
        fusion: How the classifier over film, draft and regions is fitted on validation films.
        rounds: Rounds of the joint stage, where there is one; its generator then stands in the bundle too.
        initial_weights: Imported weights that the stages start from instead of random ones.
        recipe: Whose networks learn, and how: ``crrg`` is ours, ``paper`` that of RGRG and CXR-CLIP.
        detector: Changes of the detector stage; ``None`` keeps what preset and recipe say. Changes of its
            loop go before the fields above.
        selector: Changes of the selector stage; ``None`` keeps what preset and recipe say.
        generator: Changes of the generator stage; ``None`` keeps what preset and recipe say.
        clip: Changes of the stages clip and joint; ``None`` keeps what preset and recipe say.
        decoding: How the bundle searches its drafts; ``None`` keeps how the generator was validated.
    """

    dataset: str = Field("demo", title="Dataset", min_length=1, json_schema_extra={"position": 0})
    dataset_version: str = Field("", title="Dataset version (empty = newest)", json_schema_extra={"position": 1})
    preset: Preset = Field("tiny", title="Preset", json_schema_extra={"position": 2})
    num_steps: int = Field(0, ge=0, le=10_000_000, title="Steps (0 = preset)", json_schema_extra={"position": 3})
    learning_rate: float = Field(0.0, ge=0, le=1, title="Learning rate (0 = preset)", json_schema_extra={"position": 4})
    seed: int = Field(0, ge=0, title="Seed", json_schema_extra={"position": 5})
    joint: bool = Field(False, title="Joint stage", json_schema_extra={"position": 6})
    device: Device = Field("auto", title="Device", json_schema_extra={"position": 7})
    stages_on: Literal["here", "deployment"] = Field("here", title="Train stages", json_schema_extra={"position": 8})
    evaluation_limit: int = Field(0, ge=0, title="Evaluation films (0 = all)", json_schema_extra={"position": 9})
    promote: Literal["if_gate_passes", "never"] = Field(
        "if_gate_passes", title="Promote", json_schema_extra={"position": 10}
    )
    gate: Gate = Field(Gate(), title="Gate", json_schema_extra={"position": 11})
    fusion: FusionSettings = Field(FusionSettings(), title="Fused classifier", json_schema_extra={"position": 12})
    rounds: JointRounds = Field(JointRounds(), title="Joint rounds", json_schema_extra={"position": 13})
    initial_weights: InitialWeights = Field(
        InitialWeights(), title="Weights to start from", json_schema_extra={"position": 14}
    )
    recipe: Recipe = Field("crrg", title="Recipe", json_schema_extra={"position": 15})
    detector: DetectorOverrides = Field(DetectorOverrides(), title="Detector stage", json_schema_extra={"position": 16})
    selector: SelectorOverrides = Field(SelectorOverrides(), title="Selector stage", json_schema_extra={"position": 17})
    generator: GeneratorOverrides = Field(
        GeneratorOverrides(), title="Generator stage", json_schema_extra={"position": 18}
    )
    clip: ClipOverrides = Field(ClipOverrides(), title="CLIP stages", json_schema_extra={"position": 19})
    decoding: DecodingOverrides = Field(
        DecodingOverrides(), title="Search of drafts", json_schema_extra={"position": 20}
    )

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages to train, in order."""
        return TRAINABLE if self.joint else STAGES

    def stage_config(self) -> TrainStageConfig:
        """Return the form of one stage with this form's settings."""
        shared = self.model_dump(include=set(TrainStageConfig.model_fields))
        return TrainStageConfig.model_validate(shared)


class EvaluateConfig(FrozenConfig):
    """Form of an evaluation.

    Attributes:
        dataset: Dataset to score on.
        dataset_version: Its version; empty takes the newest.
        split: Part of the dataset.
        model: ``models:/crrg-pipeline@champion``, a version such as ``3``, or a bundle folder.
        limit: Most films, spread over the split; 0 takes all.
        device: Where the models run.
        chexbert: Folder that ``crrg import chexbert`` wrote, on the machine that evaluates; CheXbert's clinical figures
            are then added. Empty leaves them out.
        radgraph: Folder that ``crrg import radgraph`` wrote, on the machine that evaluates; RadGraph F1 is then added.
            Empty leaves it out.
        meteor_jar: Path of ``meteor-1.5.jar`` with its data folder beside it, on the machine that evaluates, which then
            needs Java; METEOR 1.5 is then added, beside the METEOR without Java. Empty leaves it out.
    """

    dataset: str = Field("demo", title="Dataset", min_length=1, json_schema_extra={"position": 0})
    dataset_version: str = Field("", title="Dataset version (empty = newest)", json_schema_extra={"position": 1})
    split: Literal["train", "validation", "test"] = Field("test", title="Split", json_schema_extra={"position": 2})
    model: str = Field(CHAMPION_MODEL, title="Model", min_length=1, json_schema_extra={"position": 3})
    limit: int = Field(0, ge=0, title="Films (0 = all)", json_schema_extra={"position": 4})
    device: Device = Field("auto", title="Device", json_schema_extra={"position": 5})
    chexbert: str = Field("", title="Folder of CheXbert (empty = none)", json_schema_extra={"position": 6})
    radgraph: str = Field("", title="Folder of RadGraph (empty = none)", json_schema_extra={"position": 7})
    meteor_jar: str = Field("", title="Jar of METEOR 1.5 (empty = none)", json_schema_extra={"position": 8})


class GroundConfig(FrozenConfig):
    """Form of a grounding: films without a scene graph get boxes from a detector and phrases from their reports.

    Attributes:
        dataset: Name of the dataset; the result is its newest version.
        dataset_version: Version to start from; empty for the newest.
        model: ``models:/crrg-pipeline@champion``, a version such as ``3``, or a bundle folder; only its detector is
            used.
        min_score: Least score of a box that is kept, 0..1; a region below it stays un-annotated.
        device: Where the detector runs.
    """

    dataset: str = Field("demo", title="Dataset", min_length=1, json_schema_extra={"position": 0})
    dataset_version: str = Field("", title="Dataset version (empty = newest)", json_schema_extra={"position": 1})
    model: str = Field(CHAMPION_MODEL, title="Model", min_length=1, json_schema_extra={"position": 2})
    min_score: float = Field(0.3, ge=0, le=1, title="Least score of a box", json_schema_extra={"position": 3})
    device: Device = Field("auto", title="Device", json_schema_extra={"position": 4})


class PromoteConfig(FrozenConfig):
    """Form of a promotion.

    Attributes:
        version: Registered version of ``crrg-pipeline`` to make champion; 0 with ``rollback``.
        rollback: Whether to go back to the previous champion instead.
    """

    version: int = Field(0, ge=0, title="Version", json_schema_extra={"position": 0})
    rollback: bool = Field(False, title="Roll back to the previous champion", json_schema_extra={"position": 1})

    @model_validator(mode="after")
    def _names_one_target(self) -> PromoteConfig:
        if bool(self.version) == self.rollback:
            raise ValueError(f"give VERSION or --rollback{', not both' if self.rollback else ''}")
        return self


class DemoConfig(FrozenConfig):
    """Form of the demo.

    Attributes:
        num_studies: Drawn studies to train on.
        num_fresh_studies: Drawn studies of other patients, for the night and its scorecard.
        seed: Seed of the drawings and of the training.
        preset: Size of the networks.
        num_steps: Optimiser steps of every stage; 0 takes the preset's.
        device: Where to train and draft.
    """

    num_studies: int = Field(1600, ge=12, le=100_000, title="Studies", json_schema_extra={"position": 0})
    num_fresh_studies: int = Field(200, ge=4, le=10_000, title="Fresh studies", json_schema_extra={"position": 1})
    seed: int = Field(0, ge=0, title="Seed", json_schema_extra={"position": 2})
    preset: Preset = Field("tiny", title="Preset", json_schema_extra={"position": 3})
    num_steps: int = Field(0, ge=0, le=10_000_000, title="Steps (0 = preset)", json_schema_extra={"position": 4})
    device: Device = Field("auto", title="Device", json_schema_extra={"position": 5})
