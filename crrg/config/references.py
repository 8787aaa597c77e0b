"""References: what travels between tasks instead of tables and tensors. All JSON, all small."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crrg.config.base import FrozenConfig
from crrg.config.running import NightlyConfig
from crrg.config.watch import NightWatch


class DatasetRef(FrozenConfig):
    """One version of a dataset.

    Attributes:
        name: Dataset name.
        version: Fingerprint over content and settings.
        manifest_key: Key of its manifest under the root.
        num_rows: Rows per split.
    """

    name: str
    version: str
    manifest_key: str
    num_rows: dict[str, int]


class StageResult(FrozenConfig):
    """A finished training stage.

    Attributes:
        stage: detector, selector, generator, clip or joint.
        prefix: Key prefix of the checkpoint folder under the root.
        sha256: Digest of its ``model.safetensors``.
        config_hash: Hash over resolved settings, dataset version and upstream digests; the folder's name.
        metrics: Validation metrics by ``protocol/name``.
        reused: Whether an earlier finished run was found and nothing was trained.
        duration_s: Wall time of the training, seconds (of the earlier run where reused).
        run_id: Tracking run, empty if none.
        model_version: Version in the registry, empty if not registered.
        beside: Other parts of a bundle that the stage made with this one: the generator of the joint rounds, what
            learns on in the paper's stages.
        files: Name to sha256 of its other files, ``config.json`` among them; empty in stages finished before they were
            recorded.
    """

    stage: str
    prefix: str
    sha256: str
    config_hash: str
    metrics: dict[str, float] = Field(default_factory=dict)
    reused: bool = False
    duration_s: float = 0.0
    run_id: str = ""
    model_version: str = ""
    beside: tuple[StageResult, ...] = ()
    files: dict[str, str] = Field(default_factory=dict)

    @property
    def part(self) -> str:
        """Part of a bundle that this stage makes: ``clip`` of ``joint``, ``detector`` of ``generator-detector``."""
        return "clip" if self.stage == "joint" else self.stage.rsplit("-", 1)[-1]


class BundleRef(FrozenConfig):
    """One bundle of the four stages.

    Attributes:
        bundle_id: Digest of all parts.
        prefix: Key prefix of its folder under the root, or an absolute folder URL.
        model_version: Version of ``crrg-pipeline`` in the registry, empty if unregistered.
    """

    bundle_id: str
    prefix: str
    model_version: str = ""


class IngestSummary(FrozenConfig):
    """What an ingest run did; ``accepted + quarantined`` equals ``num_inputs``.

    Attributes:
        dataset: The dataset version it committed.
        num_inputs: Objects seen.
        num_accepted: Rows written.
        num_quarantined: Objects refused.
        reasons: Count per reason code.
        details: What is most often said of a reason in words, by its code.
        reused: Whether the same version existed already.
        failure_rate: Share of the inputs in scope that were refused, 0..1.
        is_over_limit: Whether that share is above the form's ``max_failure_rate``.
        quarantine_key: Key of the record of refused inputs.
        card_key: Key of the version's data card (JSON; Markdown and a sheet of samples beside it).
    """

    dataset: DatasetRef
    num_inputs: int
    num_accepted: int
    num_quarantined: int
    reasons: dict[str, int] = Field(default_factory=dict)
    details: dict[str, str] = Field(default_factory=dict)
    reused: bool = False
    failure_rate: float = 0.0
    is_over_limit: bool = False
    quarantine_key: str = ""
    card_key: str = ""


class IngestShard(FrozenConfig):
    """A part of an ingest: a few hundred films that must be decoded.

    Attributes:
        index: Number of the shard in its plan.
        key: Key of the object that its outcomes are staged in.
        plan_key: Key of the plan it belongs to.
        row_key: Digest of what shapes a single row.
        first: Number of its first film among those that must be decoded, in the order of the archives.
        num_inputs: How many films it has.
    """

    index: int
    key: str
    plan_key: str
    row_key: str
    first: int
    num_inputs: int


class StagedShard(FrozenConfig):
    """A part of an ingest that was decoded.

    Attributes:
        index: Number of the shard in its plan.
        num_inputs: How many films it has.
        num_refused: How many of them were refused; 0 where it was reused.
        reused: Whether an earlier run had staged it.
        ran_on: Machine and process that did it; empty where nobody said.
    """

    index: int
    num_inputs: int
    num_refused: int = 0
    reused: bool = False
    ran_on: str = ""


class ShardRef(FrozenConfig):
    """A part of a night: a few hundred inbox objects.

    Attributes:
        index: Number of the shard in its night.
        key: Key of the object that lists its inputs.
        num_inputs: How many inputs it lists.
    """

    index: int
    key: str
    num_inputs: int


class NightPlan(FrozenConfig):
    """What a night is going to do.

    Attributes:
        date: The night's date, ``YYYY-MM-DD``.
        run_id: Deterministic id over date, inventory and bundle.
        inbox: URL of the inbox.
        bundle: The resolved bundle.
        fencing: Number that the commit will carry.
        shards: What is new, in shards.
        num_new: New inputs.
        num_done: Inputs the ledger knows already.
        num_pending: Inputs that are too young to be read.
        registry_available: Whether the alias came from the registry and not from the last record.
        key_id: Which secret makes the pseudonyms.
        inbox_id: Pseudonym of the inbox's address.
        status: ``planned``, or why there is nothing to do: ``nothing_new``, or ``held`` by another holder. A plan
            without work has no shards and its commit only reports that.
        config: The form the night was started with.
        planning_s: How long it took to list what is new, seconds.
        held_by: Which night is held by whom and until when, as a sentence, where the status is ``held``.
        is_run_elsewhere: Whether it is this very night that somebody holds, and not another one or an upkeep.
        not_found: What the form asks to read again and no night has read, as sentences.
    """

    date: str
    run_id: str
    inbox: str
    bundle: BundleRef
    fencing: int
    shards: tuple[ShardRef, ...]
    num_new: int
    num_done: int
    num_pending: int = 0
    registry_available: bool = True
    key_id: str = ""
    inbox_id: str = ""
    status: Literal["planned", "nothing_new", "held"] = "planned"
    config: NightlyConfig
    planning_s: float = 0.0
    held_by: str = ""
    is_run_elsewhere: bool = False
    not_found: tuple[str, ...] = ()


class ShardResult(FrozenConfig):
    """What became of one shard.

    Attributes:
        index: Number of the shard.
        key: Key of the shard's record (files, digests, outcomes).
        num_accepted: Films drafted.
        num_quarantined: Objects refused.
        reused: Whether an earlier run of the same night had finished it.
        stopped: Whether an operator's stop flag was found and the shard was left for the next run.
        ran_on: Machine and process that did it; empty where nobody said.
        times_s: Stage to seconds: ``reading`` (waiting for films), ``drafting``, ``writing``; empty where reused.
    """

    index: int
    key: str
    num_accepted: int
    num_quarantined: int
    reused: bool = False
    stopped: bool = False
    ran_on: str = ""
    times_s: dict[str, float] = Field(default_factory=dict)


class NightSummary(FrozenConfig):
    """A night's outcome.

    Attributes:
        date: The night's date.
        status: ``committed``, ``nothing_new``, ``held`` by another holder, or ``stopped`` by an operator (resumable).
        manifest_key: Key of the commit, empty if there is none.
        bundle_id: Bundle that drafted.
        num_inputs: Inputs of this night.
        num_accepted: Drafted.
        num_quarantined: Refused.
        num_pending: Left for later.
        num_flagged: Drafts with at least one flag.
        reasons: Count per reason code.
        review_key: Key of the review page, empty if there is none.
        digest: ``crrg digest`` of the night.
        failure_share: Share of the inputs in scope that were quarantined, 0..1.
        exceeds_failure_rate: Whether that share is above the form's ``max_failure_rate`` (exit code 3).
        max_failure_rate: That limit, 0..1.
        num_failed_studies: Studies of which an input counts in that share; inputs of an unknown study count each.
        watch: What the night looks like beside its training reference; ``None`` where nothing was drafted.
        usual_prevalence: Label to its share of positive drafts over the last nights before this one; empty without.
        model_version: Version of the bundle in the registry, empty if unregistered.
        times_s: Stage to seconds, summed over shards: ``planning``, ``reading``, ``drafting``, ``writing``,
            ``publishing``.
        num_shards_on_cpu: Shards that the CPU had to draft, since the device's memory did not suffice for one film.
        held_by: Which night is held by whom and until when, as a sentence, where the status is ``held``.
        is_run_elsewhere: Whether it is this very night that somebody holds, and not another one or an upkeep.
        not_found: What the form asked to read again and no night has read, as sentences.
    """

    date: str
    status: Literal["committed", "nothing_new", "held", "stopped"]
    manifest_key: str = ""
    bundle_id: str = ""
    num_inputs: int = 0
    num_accepted: int = 0
    num_quarantined: int = 0
    num_pending: int = 0
    num_flagged: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    review_key: str = ""
    digest: str = ""
    failure_share: float = 0.0
    exceeds_failure_rate: bool = False
    max_failure_rate: float = 0.0
    num_failed_studies: int = 0
    watch: NightWatch | None = None
    usual_prevalence: dict[str, float] = Field(default_factory=dict)
    model_version: str = ""
    times_s: dict[str, float] = Field(default_factory=dict)
    num_shards_on_cpu: int = 0
    held_by: str = ""
    is_run_elsewhere: bool = False
    not_found: tuple[str, ...] = ()

    @property
    def is_flagged(self) -> bool:
        """Whether the watch says that somebody should look at the night as a whole."""
        return self.watch is not None and bool(self.watch.flagged or self.watch.faults)


class DeliverySummary(FrozenConfig):
    """What a delivery did.

    Attributes:
        num_studies: Studies with a current draft.
        num_delivered: Written now, and sent where an archive was given.
        num_unchanged: Delivered before.
        num_objects_sent: DICOM objects that the archive took.
        reasons: Count per reason of studies that could not be delivered.
        not_found: What the form asked to deliver and no night drafted, as sentences.
    """

    num_studies: int
    num_delivered: int
    num_unchanged: int
    num_objects_sent: int
    reasons: dict[str, int] = Field(default_factory=dict)
    not_found: tuple[str, ...] = ()


class EvaluationResult(FrozenConfig):
    """How good a bundle is on one part of one dataset version.

    Attributes:
        bundle: What was evaluated.
        dataset: On which version.
        split: On which part.
        metrics: Figures by ``protocol/name``.
        num_studies: Studies that were scored; 0 where that is not known.
        num_left_out: Films of the split that were not scored, since the bundle has seen them.
        scorecard_key: Key of the whole scorecard (JSON; Markdown beside it) under the root.
        reused: Whether an earlier evaluation was found.
    """

    bundle: BundleRef
    dataset: DatasetRef
    split: str
    metrics: dict[str, float]
    num_studies: int = 0
    num_left_out: int = 0
    scorecard_key: str
    reused: bool = False


class PromotionResult(FrozenConfig):
    """Whether the champion alias moved.

    Attributes:
        promoted: Whether it did.
        version: Version it was about.
        previous_version: Version that was champion before, empty if there was none.
        bundle_id: Bundle of the version.
        reasons: Conditions of the gate that were not met, or why nothing moved.
    """

    promoted: bool
    version: str
    previous_version: str = ""
    bundle_id: str = ""
    reasons: tuple[str, ...] = ()


class RetrainResult(FrozenConfig):
    """Everything a retraining made.

    Attributes:
        stages: The finished stages, ``joint`` last where it was asked for.
        evaluation: Scorecard of their bundle.
        promotion: What the gate decided.
    """

    stages: tuple[StageResult, ...]
    evaluation: EvaluationResult
    promotion: PromotionResult


class DemoResult(FrozenConfig):
    """Everything the demo made.

    Attributes:
        training: Ingest of the drawn training cohort.
        retraining: Stages, scorecard on held-out drawn patients, promotion.
        night: The night over fresh studies.
        scorecard_key: Key of the scorecard of the night's drafts against what was drawn.
    """

    training: IngestSummary
    retraining: RetrainResult
    night: NightSummary
    scorecard_key: str
