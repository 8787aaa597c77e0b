"""The commit of a night: one manifest, written last and only where there is none.

A manifest ``results/date=D/_manifest-<n>.json`` names every file of a run with rows and digest; readers believe nothing
else. ``n`` is the fencing number of the lease (``lease.py``) under which the run worked. Who takes a night over from a
dead holder first *seals* the numbers before its own with an empty manifest: a holder that wakes up later finds its
place taken and cannot commit. What a number means to the holder is the lease's business, not known here.

A run that is rewritten (``crrg forget``, ``crrg gc --results-older-than``, ``crrg rekey``, or since a newer night has
superseded drafts of it) keeps its run id and commits again under a higher number: of several manifests of one run the
highest counts, and the older ones are then sealed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeVar

from pydantic import Field

from crrg.checked_json import DIGEST, check_schema_version, checked_json, parse_checked
from crrg.config.base import FrozenConfig
from crrg.config.references import BundleRef
from crrg.errors import Conflict, StorageError
from crrg.ledger.audit import SEAL, EntryRef, write_audit
from crrg.ledger.tables import TableFile
from crrg.storage import Storage, hash_json

T = TypeVar("T")

SCHEMA_VERSION = 1
READABLE_VERSIONS = (1,)
READERS = 16
"""Nights looked at at a time: a store in another building is mostly waited for."""
_DATE_FOLDER = re.compile(r"date=(\d{4}-\d{2}-\d{2})")
_MANIFEST = re.compile(r"_manifest-(\d+)\.json")
_KEY = re.compile(r"results/date=(\d{4}-\d{2}-\d{2})/_manifest-(\d+)\.json")


class Superseded(FrozenConfig):
    """An older draft that a newer one replaces; the older row stays where it is.

    Attributes:
        instance_id: Image both drafts are about.
        date: Night of the older draft.
        run_id: Run of the older draft.
    """

    instance_id: str
    date: str
    run_id: str


class Manifest(FrozenConfig):
    """What one run of a night committed.

    Attributes:
        schema_version: Version of the table schemas (``docs/operations.md``).
        status: ``committed``, or ``sealed`` where a dead holder's number was taken out of use; then all else is empty.
        date: The night.
        run_id: Deterministic id of the run.
        fencing: Number in the manifest's own name.
        key_id: Which secret made the pseudonyms; empty in manifests written before this was noted.
        inbox_id: Pseudonym of the inbox's address; empty in manifests written before this was noted.
        bundle: Bundle that drafted.
        registry_available: Whether the bundle's alias came from the registry, not from the last record.
        files: Tables of the run.
        index_key: JSON object of every document, picture and page of the run with its sha256.
        index_sha256: Digest of that object.
        review_key: Entry of the review page.
        replaced_key: What tells the page which of its drafts newer ones replaced; rewritten with each of them, so
            no digest of it is recorded but ``marks``. Empty where there is no page, or one that does not say it.
        num_inputs: New inbox objects: accepted, quarantined and pending together.
        num_accepted: Drafted, or equal in content to what was drafted before.
        num_quarantined: Refused.
        num_pending: Left for later.
        num_flagged: Drafts with at least one flag that asks for attention; an unknown tag is only a note.
        reasons: Count per reason code.
        thresholds: Probability from which a label counts as positive.
        abnormal_threshold: Probability from which a region reads abnormal; ``None`` where it was not noted.
        superseded: Older drafts replaced by this run.
        digest: ``crrg digest`` of this run.
        committed_utc: When, ISO 8601.
        sequence: Place among the commits of all nights, from 1: their order, whatever the clocks say; 0 in manifests
            written before it was noted.
        versions: Library versions that worked.
        watch_key: What the watch found (JSON), empty for nights without a watch.
        watch_sha256: Its digest.
        audit: The entry that was written before this commit; ``None`` for nights without a chained audit.
        withheld: Why drafts of this run are not delivered; empty where they are.
        marks: Digest of what report tables and page say of newer drafts (``superseded_by``); empty where they say
            nothing.
        ledger_fencing: Number of the commit that wrote the rows of the ledger; 0 where it is this one.
        num_shards_on_cpu: Shards that the CPU drafted, or their rest, since the device's memory did not suffice for one
            film; each film's draft is the same but for rounding.
        num_failed_studies: Studies of which an input was refused for somebody's failure, inputs of an unknown study
            counting each; ``None`` in manifests written before it was noted, and in rewritten ones.
    """

    schema_version: int = SCHEMA_VERSION
    status: Literal["committed", "sealed"] = "committed"
    date: str
    run_id: str = ""
    fencing: int
    key_id: str = ""
    inbox_id: str = ""
    bundle: BundleRef | None = None
    registry_available: bool = True
    files: tuple[TableFile, ...] = ()
    index_key: str = ""
    index_sha256: str = ""
    review_key: str = ""
    replaced_key: str = ""
    num_inputs: int = 0
    num_accepted: int = 0
    num_quarantined: int = 0
    num_pending: int = 0
    num_flagged: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)
    thresholds: dict[str, float] = Field(default_factory=dict)
    abnormal_threshold: float | None = None
    superseded: tuple[Superseded, ...] = ()
    digest: str = ""
    committed_utc: str = ""
    sequence: int = 0
    versions: dict[str, str] = Field(default_factory=dict)
    watch_key: str = ""
    watch_sha256: str = ""
    audit: EntryRef | None = None
    withheld: str = ""
    marks: str = ""
    ledger_fencing: int = 0
    num_shards_on_cpu: int = 0
    num_failed_studies: int | None = None


def night_prefix(date: str) -> str:
    """Return the key prefix of a night's results."""
    return f"results/date={date}"


def run_prefix(date: str, run_id: str) -> str:
    """Return the key prefix of one run of a night."""
    return f"{night_prefix(date)}/run={run_id}"


def manifest_key(date: str, fencing: int) -> str:
    """Return the key of a commit."""
    return f"{night_prefix(date)}/_manifest-{fencing}.json"


def parse_manifest_key(key: str) -> tuple[str, int] | None:
    """Return the night and the number of a commit; ``None`` for the key of anything else."""
    match = _KEY.fullmatch(key)
    return (match[1], int(match[2])) if match else None


def audited_digest(content: Mapping[str, Any]) -> str:
    """Return the digest by which the audit knows a manifest: of all it says but for its entry, which it names itself.

    Args:
        content: The manifest as it lies in the store; of one that was not written yet, as it will.
    """
    return hash_json({name: each for name, each in content.items() if name not in ("audit", DIGEST)}, 64)


def audited_writes(manifest: Manifest) -> dict[str, str]:
    """Return what an entry says of a manifest that is about to be committed: its key and its digest."""
    return {manifest_key(manifest.date, manifest.fencing): audited_digest(manifest.model_dump(mode="json"))}


def fencing_numbers(storage: Storage, date: str) -> list[int]:
    """Return the numbers of a night that are used up, committed or sealed, ascending."""
    found = (_MANIFEST.fullmatch(name) for name in storage.list_folder(night_prefix(date)))
    return sorted(int(match[1]) for match in found if match)


def night_dates(storage: Storage) -> list[str]:
    """Return the dates that have a results folder, ascending."""
    found = (_DATE_FOLDER.fullmatch(name) for name in storage.list_folder("results"))
    return sorted(match[1] for match in found if match)


def manifest_keys(storage: Storage) -> list[str]:
    """Return the keys of all manifests of all nights, committed or sealed, in order of date and number."""
    dates = night_dates(storage)
    with ThreadPoolExecutor(READERS, thread_name_prefix="manifests") as pool:
        numbers = pool.map(partial(fencing_numbers, storage), dates)
        return [manifest_key(date, number) for date, found in zip(dates, numbers, strict=True) for number in found]


def read_manifests(storage: Storage, date: str = "") -> list[Manifest]:
    """Return the committed manifests of a night, or of all nights, in order of date and, within one, of first commit.

    Raises:
        StorageError: One has a schema version that this program does not know, or the store is out of reach.
    """
    return current_manifests(committed_manifests(storage, date))


def current_manifests(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return what counts of manifests: of each committed run the highest number, in the order of ``read_manifests``."""
    committed = sorted((each for each in manifests if each.status == "committed"), key=lambda each: each.fencing)
    current = {(each.date, each.run_id): each for each in committed}
    return sorted(current.values(), key=lambda each: (each.date, each.sequence, each.fencing))


def read_named(storage: Storage, read: Callable[[list[Manifest]], T], known: Sequence[Manifest] | None = None) -> T:
    """Return what a function reads of all nights; where one was written again meanwhile, it is asked again.

    Args:
        storage: The root.
        read: Gets the manifests that ``read_manifests`` returns, and reads what they name.
        known: What that returned to a caller who holds the nights; asked here where not given.

    Raises:
        StorageError: Something that manifests name is gone or damaged, or the store is out of reach.
    """
    manifests = read_manifests(storage) if known is None else list(known)
    while True:
        try:
            return read(manifests)
        except StorageError as error:
            if error.retryable:
                raise
            before, manifests = manifests, read_manifests(storage)
            if manifests == before:
                raise


def committed_manifests(storage: Storage, date: str = "") -> list[Manifest]:
    """Return all committed manifests, also those of runs that were rewritten since; see ``read_manifests``."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="manifests") as pool:
        nights = pool.map(partial(_read_night, storage), [date] if date else night_dates(storage))
        manifests = [manifest for night in nights for manifest in night]
    return [manifest for manifest in manifests if manifest.status == "committed"]


def next_sequence(manifests: Iterable[Manifest]) -> int:
    """Return the place that the next commit takes after those of all nights; only who holds them may take it."""
    return 1 + max((manifest.sequence for manifest in manifests), default=0)


def commit_manifest(storage: Storage, manifest: Manifest) -> str:
    """Publish a run and return the manifest's key.

    Raises:
        Conflict: The fencing number is used up: another holder took the night over. Nothing was published.
        StorageError: The store does not take it, or does not answer; then it may land until its number is sealed.
    """
    key, data = manifest_key(manifest.date, manifest.fencing), checked_json(manifest.model_dump(mode="json"))
    try:
        storage.put_if_absent(key, data)
    except Conflict as error:
        raise _taken_over(manifest.date, manifest.fencing) from error
    except StorageError:
        # only the answer may be lost
        if not _lies_there(storage, key, data):
            raise
    return key


def _lies_there(storage: Storage, key: str, data: bytes) -> bool:
    """Return whether an object is there with these bytes; of a store that does not say so either it is not known."""
    with suppress(StorageError):
        return storage.get_if_there(key) == data
    return False


def find_own_commit(storage: Storage, date: str, run_id: str, fencing: int) -> Manifest | None:
    """Return the commit that a run made under its number before the store's answer was lost.

    ``None`` where the number can still commit, before work is spent on it; the commit itself decides.

    Raises:
        Conflict: It is used up: another holder took the night over.
    """
    if not storage.exists(manifest_key(date, fencing)):
        return None
    found = _read(storage, date, fencing)
    if found.status == "committed" and found.run_id == run_id:
        return found
    raise _taken_over(date, fencing)


def is_committed(storage: Storage, date: str, fencing: int) -> bool:
    """Return whether a run was committed under a number, which only the holder of that number can have done."""
    return storage.exists(manifest_key(date, fencing)) and _read(storage, date, fencing).status == "committed"


def seal_number(storage: Storage, date: str, fencing: int) -> bool:
    """Take a dead holder's number out of use; return whether it had not been used, so that it can never commit now.

    It is audited first: an entry may say of what was to be committed under it, and nothing will be found of that.
    """
    key, sealed = manifest_key(date, fencing), Manifest(status="sealed", date=date, fencing=fencing)
    if storage.exists(key):
        return False
    write_audit(storage, SEAL, subject=date, outputs=(key,))
    try:
        storage.put_if_absent(key, checked_json(sealed.model_dump(mode="json")))
    except Conflict:
        return False
    return True


def seal_rewritten(storage: Storage, date: str) -> int:
    """Seal the manifests of runs that committed again under a higher number; return how many there were.

    They name objects that are about to go, and may hold ids that are.
    """
    current = {(each.run_id, each.fencing) for each in read_manifests(storage, date)}
    older = [each for each in committed_manifests(storage, date) if (each.run_id, each.fencing) not in current]
    for manifest in older:
        sealed = Manifest(status="sealed", date=date, fencing=manifest.fencing)
        storage.put(manifest_key(date, manifest.fencing), checked_json(sealed.model_dump(mode="json")))
    return len(older)


def _read_night(storage: Storage, date: str) -> list[Manifest]:
    """Read the manifests of a night; one that was sealed or is gone may have a successor that was not listed yet."""
    numbers = fencing_numbers(storage, date)
    while True:
        found, lost = [], None
        for fencing in numbers:
            try:
                found.append(_read(storage, date, fencing))
            except StorageError as error:
                if error.retryable or storage.exists(manifest_key(date, fencing)):
                    raise
                lost = error
        if lost is None and all(manifest.status == "committed" for manifest in found):
            return found
        before, numbers = numbers, fencing_numbers(storage, date)
        if numbers != before:
            continue
        if lost is not None:
            raise lost
        return found


def _read(storage: Storage, date: str, fencing: int) -> Manifest:
    key = manifest_key(date, fencing)
    return parse_manifest(key, storage.get(key))


def parse_manifest(key: str, data: bytes) -> Manifest:
    """Return a manifest from its bytes; fields that a later program of the same schema version added are left out.

    Raises:
        StorageError: It has a schema version that this program does not know, or is damaged.
    """
    try:
        return Manifest.model_validate(parse_checked(data, partial(_check_version, key)), extra="ignore")
    except (TypeError, ValueError):
        # nothing of its content is said: what a damaged one holds is not known
        raise StorageError("the manifest is damaged; restore it from a backup", key) from None


def _check_version(key: str, value: Mapping[str, Any]) -> None:
    check_schema_version(value.get("schema_version"), READABLE_VERSIONS, key)


def _taken_over(date: str, fencing: int) -> Conflict:
    return Conflict(
        f"fencing number {fencing} is used up, since another holder took the night over; nothing was published, "
        "run the night again",
        manifest_key(date, fencing),
    )
