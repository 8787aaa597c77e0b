"""What a night writes down about itself between its steps: plan, shards, and what became of every input.

These objects lie under the run's own prefix and let a night be resumed; readers of results never need them. They hold
pseudonyms only: which object of the inbox is meant is found again by computing the HMAC of every key there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from pydantic import Field

from crrg.checked_json import checked_json, parse_checked
from crrg.config.base import FrozenConfig
from crrg.config.references import NightPlan
from crrg.config.running import NightlyConfig
from crrg.data.refusals import is_failure
from crrg.domain.study import ViewPosition
from crrg.errors import CrrgError, StorageError
from crrg.ledger.ledger import Outcome
from crrg.ledger.manifest import run_prefix
from crrg.ledger.tables import TableFile
from crrg.monitoring.quantities import FilmLook
from crrg.operations.night.rereads import asked_rereads
from crrg.storage import Storage, hash_json

V = TypeVar("V", bound=FrozenConfig)
_RECORD = re.compile(r"shard-(\d+)\.json")


class PreviousOutcome(FrozenConfig):
    """What an earlier night made of the same object in another version.

    Attributes:
        source_digest: Hex sha256 of the bytes it read then.
        pixel_digest: Hex digest of the pixels, empty where not decoded.
        patient_id: Pseudonym, empty where unknown.
        study_id: Pseudonym, empty where unknown.
        instance_id: Pseudonym, empty where unknown.
        outcome: How it ended.
        reason: Reason code, empty where accepted.
    """

    source_digest: str
    pixel_digest: str
    patient_id: str
    study_id: str
    instance_id: str
    outcome: Outcome
    reason: str


class ShardInput(FrozenConfig):
    """One input as the plan lists it.

    Attributes:
        key_hmac: Pseudonym of its key in the inbox.
        etag: Version that was listed.
        size: Bytes that were listed.
        rank: Its place among the night's inputs by (modification time, key); the first of equals is drafted.
        previous: What an earlier night made of it, if the ledger knows another version.
        replaces_run: Run whose reading of the same version is repeated, since it failed, somebody asked, or the
            version was sent back; empty for what is new.
        is_sent_back: Whether another version was drafted since that reading.
    """

    key_hmac: str
    etag: str
    size: int
    rank: int
    previous: PreviousOutcome | None = None
    replaces_run: str = ""
    is_sent_back: bool = False


class ShardInputs(FrozenConfig):
    """The content of a shard's listing, in order of rank."""

    inputs: tuple[ShardInput, ...]


class OpenPlan(FrozenConfig):
    """A plan as a later run of the same night finds it again.

    Attributes:
        run_id: Its run.
        identity: Digest over inbox, bundle and every setting that shapes the results; only an equal one is resumed.
        shards: Number of inputs per shard.
    """

    run_id: str
    identity: str
    shards: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InputOutcome:
    """What became of one input in its shard; a night holds one per input, so it is kept small.

    Attributes:
        key_hmac: Pseudonym of its key.
        etag: Version that was read.
        rank: Its place among the night's inputs.
        outcome: Accepted or quarantined.
        reason: Reason code, empty where accepted.
        detail: What was wrong, without patient text.
        is_carried: Whether an earlier night read the same bytes from the same object and its outcome is repeated.
        source_digest: Hex sha256 of the bytes, empty where it could not be read.
        pixel_digest: Hex digest of the pixels, empty where not decoded.
        patient_id: Pseudonym, empty where unknown.
        study_id: Pseudonym, empty where unknown.
        instance_id: Pseudonym, empty where unknown.
        view_position: Projection, empty where not decoded.
        width: Original pixels, 0 where not decoded.
        height: Original pixels, 0 where not decoded.
        num_flags: Flags of the draft that ask for attention.
        is_reread: Whether an earlier night read the same object in the same version, and no other one since.
        look: How the film looks as a whole, ``None`` where not decoded.
        counted_study: What its study is counted by, should it be refused (``Pseudonyms.counted_study``); empty where
            its bytes name none, and one and the same for all films of forgotten patients.
    """

    key_hmac: str
    etag: str
    rank: int
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    is_carried: bool = False
    source_digest: str = ""
    pixel_digest: str = ""
    patient_id: str = ""
    study_id: str = ""
    instance_id: str = ""
    view_position: str = ""
    width: int = 0
    height: int = 0
    num_flags: int = 0
    is_reread: bool = False
    look: FilmLook | None = None
    counted_study: str = ""

    @property
    def is_drafted(self) -> bool:
        """Whether this night drafted it."""
        return self.outcome is Outcome.ACCEPTED and not self.is_carried

    def refused(self, reason: str, detail: str) -> InputOutcome:
        """Return the same input as quarantined."""
        return replace(self, outcome=Outcome.QUARANTINED, reason=reason, detail=detail, num_flags=0)


class ShardRecord(FrozenConfig):
    """A finished shard; written after everything it names.

    Attributes:
        index: Number of the shard.
        tables: Its report and region rows.
        objects: Key of each picture to its sha256.
        outcomes: One per input, in order of rank.
        thresholds: Probability from which a label counts as positive.
        abnormal_threshold: Probability from which a region reads abnormal; ``None`` where it was not noted.
        is_on_cpu: Whether the device's memory did not suffice and the CPU drafted the rest of it.
    """

    index: int
    tables: tuple[TableFile, ...]
    objects: dict[str, str]
    outcomes: tuple[InputOutcome, ...]
    thresholds: dict[str, float] = Field(default_factory=dict)
    abnormal_threshold: float | None = None
    is_on_cpu: bool = False


def plan_key(date: str, run_id: str) -> str:
    """Return the key of a run's plan."""
    return f"{run_prefix(date, run_id)}/plan/plan.json"


def inputs_key(date: str, run_id: str, index: int) -> str:
    """Return the key of a shard's listing."""
    return f"{run_prefix(date, run_id)}/plan/inputs-{index:05d}.json"


def record_key(plan: NightPlan, index: int) -> str:
    """Return the key of a shard's record."""
    return f"{_records(plan.date, plan.run_id)}/shard-{index:05d}.json"


def finished_shards(storage: Storage, date: str, run_id: str) -> frozenset[int]:
    """Return the numbers of the shards of a run that have a record."""
    found = (_RECORD.fullmatch(name) for name in storage.list_folder(_records(date, run_id)))
    return frozenset(int(match[1]) for match in found if match)


def _records(date: str, run_id: str) -> str:
    return f"{run_prefix(date, run_id)}/shards"


def table_key(plan: NightPlan, kind: Literal["reports", "regions"], index: int, suffix: str = "") -> str:
    """Return the key of a shard's table."""
    return f"{run_prefix(plan.date, plan.run_id)}/{kind}-{index:05d}{suffix}.parquet"


def read_record(storage: Storage, plan: NightPlan, index: int) -> ShardRecord:
    """Read a finished shard's record."""
    return get_value(storage, record_key(plan, index), ShardRecord)


def put_value(storage: Storage, key: str, value: FrozenConfig) -> None:
    """Write a value as JSON with its digest."""
    storage.put(key, checked_json(value.model_dump(mode="json")))


def get_value(storage: Storage, key: str, kind: type[V]) -> V:
    """Return what ``put_value`` wrote.

    Raises:
        StorageError: It is damaged, there is no such object, or the store cannot be reached.
    """
    data = storage.get(key)
    try:
        return kind.model_validate(parse_checked(data, lambda _value: None))
    except ValueError:
        raise StorageError("it is damaged; run the night again to redo it", key) from None


def plan_identity(config: NightlyConfig, bundle_id: str, inbox_hmac: str) -> str:
    """Return a digest over what a plan's results depend on besides its inputs."""
    shaping = (config.shard_size, config.image_size, config.resend_policy)
    asked = asked_rereads(config)
    shown = (config.evidence.model_dump(mode="json"),) if config.evidence.is_on else ()
    return hash_json([bundle_id, inbox_hmac, *shaping, *(asked if any(asked) else ()), *shown])


def num_failed_studies(outcomes: Iterable[InputOutcome]) -> int:
    """Return of how many studies an input counts in ``failure_share``; inputs of an unknown study count each."""
    failed = [each.counted_study for each in outcomes if is_failure(each.reason)]
    return len(set(filter(None, failed))) + failed.count("")


def conservation_error(subject: str, expected: object, got: object) -> CrrgError:
    """Return the error of a night whose numbers do not add up."""
    return CrrgError(f"counts do not add up: expected {expected}, got {got}; nothing was committed", subject)


def primary_images(outcomes: Sequence[InputOutcome]) -> frozenset[str]:
    """Return the image that stands for each study: PA before AP, then more pixels, then the lower id."""
    views = [ViewPosition.PA.value, ViewPosition.AP.value, ViewPosition.UNKNOWN.value]
    chosen: dict[str, tuple[int, int, str]] = {}
    for image in outcomes:
        if image.is_drafted:
            order = (views.index(image.view_position), -image.width * image.height, image.instance_id)
            chosen[image.study_id] = min(order, chosen.get(image.study_id, order))
    return frozenset(instance_id for _, _, instance_id in chosen.values())
