"""Removal of what no commit names: left-overs of runs that were stopped, and the scaffolding of those that finished.

Only prefixes that manifests govern are looked at (results, ledger, quarantine, datasets, staging), what identities that
may not delete have left behind (``gc_left_behind.py``), and uploads that were begun and never ended; bundles,
finished checkpoints, the audit and anything unknown stay. What is younger than the given age stays as well, since
somebody may be working on it, and so does a night that was begun and can be gone on with: as long as no other has read
its inputs. A dataset whose manifest cannot be read is left alone. What was found is looked for again where something
was committed between looking and removing; what was written again since, and what lies in a night that somebody holds,
stays for another time. On this machine, working folders of killed processes go as well, whichever root they worked for.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from crrg.data.dataset.pairs import list_versions, read_manifest, replaced_key, resolve_dataset
from crrg.data.dataset.rewrite import seen_key
from crrg.errors import ConfigError, CrrgError, StorageError
from crrg.ledger.audit import write_audit
from crrg.ledger.compaction import MANIFESTS, TABLES, compaction_keys
from crrg.ledger.lease import find_holder, store_time_s
from crrg.ledger.manifest import Manifest, manifest_keys, night_dates, read_named, run_prefix
from crrg.local_files import is_temporary
from crrg.operations.night.plans import open_plans
from crrg.operations.upkeep.gc_left_behind import left_behind
from crrg.operations.upkeep.gc_uploads import OpenUpload, abort_upload, list_open_uploads
from crrg.retries import ACCESS_DENIED
from crrg.storage import Storage, StoredObject
from crrg.working_folder import clear_left_folders

logger = logging.getLogger(__name__)

MIN_AGE_H = 24.0
HOUR_S = 3600.0
AT_ONCE = 64
"""Objects that are removed before it is looked again whether something was committed."""
_RESULTS, _NIGHTS = "results", ("ledger/date=", "quarantine/date=")
_NIGHT_TABLES = (*_NIGHTS, TABLES, MANIFESTS)
_KEPT_NAMES = ("_manifest",)


@dataclass
class Garbage:
    """What is named by no commit.

    Attributes:
        objects: Old enough to go.
        num_bytes: Their size.
        uploads: Uploads that were begun and never ended, old enough to be given up.
        num_folders: Working folders of killed processes among this machine's temporary files.
        num_young: Left because they are younger than the age asked for.
        is_removed: Whether they are gone.
    """

    objects: list[StoredObject] = field(default_factory=list)
    num_bytes: int = 0
    uploads: list[OpenUpload] = field(default_factory=list)
    num_folders: int = 0
    num_young: int = 0
    is_removed: bool = False


def collect_garbage(storage: Storage, *, min_age_h: float = MIN_AGE_H, remove: bool = False) -> Garbage:
    """Find what no manifest names and is older than an age; remove it where asked.

    Args:
        storage: The root.
        min_age_h: Least age by the store's clock, hours; 0 takes everything and is safe only while nothing runs.
        remove: Whether to delete; otherwise nothing is changed.

    Returns:
        What was found.

    Raises:
        ConfigError: The age is negative.
        StorageError: The store is out of reach, or does not let objects be deleted.
    """
    # what is no number is not less than any
    if not min_age_h >= 0:
        raise ConfigError("the minimum age must be 0 or more hours", "min_age_h")
    # what is at work now is young by the store's clock, whatever this machine's says; only looking writes nothing
    garbage, now_s = Garbage(), store_time_s(storage) if remove else time.time()
    commits = _commits(storage) if remove else frozenset()
    for stored in sorted(unnamed_objects(storage), key=lambda each: each.key):
        if now_s - stored.modified_s < min_age_h * HOUR_S:
            garbage.num_young += 1
            continue
        garbage.objects.append(stored)
    garbage.uploads = [each for each in _open_uploads(storage) if now_s - each.started_s >= min_age_h * HOUR_S]
    if remove:
        garbage.objects = _remove(storage, garbage.objects, commits)
        for upload in garbage.uploads:
            abort_upload(storage, upload)
    garbage.num_folders = clear_left_folders(remove=remove)
    garbage.num_bytes = sum(stored.size for stored in garbage.objects)
    garbage.is_removed = remove and bool(garbage.objects or garbage.uploads or garbage.num_folders)
    if remove and (garbage.objects or garbage.uploads):
        counts = {"objects": len(garbage.objects), "bytes": garbage.num_bytes, "uploads": len(garbage.uploads)}
        write_audit(storage, "gc", counts=counts)
    return garbage


def _open_uploads(storage: Storage) -> list[OpenUpload]:
    """Return the open uploads; none where this identity may not list them, as a policy without that right does not."""
    try:
        return list_open_uploads(storage)
    except StorageError as error:
        if error.code != ACCESS_DENIED:
            raise
        logger.warning("unfinished uploads are not looked for: %s", error.reason)
        return []


def _remove(storage: Storage, objects: Sequence[StoredObject], known: frozenset[str]) -> list[StoredObject]:
    """Remove objects that nothing named when some commits were known; return those that nothing names by now, either.

    A night that was cut off days ago may be taken up and commit meanwhile: then its oldest objects count.
    """
    removed: list[StoredObject] = []
    unnamed: Container[str] | None = None
    for start in range(0, len(objects), AT_ONCE):
        if (commits := _commits(storage)) != known:
            known, unnamed = commits, {stored.key for stored in unnamed_objects(storage)}
        some = [each for each in objects[start : start + AT_ONCE] if unnamed is None or each.key in unnamed]
        for stored in _left_alone(storage, some):
            storage.delete(stored.key)
            removed.append(stored)
    return removed


def _left_alone(storage: Storage, objects: Sequence[StoredObject]) -> list[StoredObject]:
    """Return those objects that nobody is at work on: as they were listed, and in no night that somebody holds now.

    Who goes on after a cut finds objects of a night there, writes others again, and names them only when it commits.
    """
    holder = find_holder(storage)
    if holder is not None:
        held = (f"{_RESULTS}/date={holder.date}/", *(f"{each}{holder.date}/" for each in _NIGHTS), TABLES, MANIFESTS)
        objects = [stored for stored in objects if not stored.key.startswith(held)]
    folders = {stored.key.rpartition("/")[0] for stored in objects if not stored.key.startswith(_RESULTS)}
    there = {stored for folder in folders for stored in storage.list_objects(folder)}
    return [each for each in objects if each.key.startswith(_RESULTS) or each in there or is_temporary(each.key)]


def _commits(storage: Storage) -> frozenset[str]:
    """Return what tells that something was committed: numbers of nights and of compactions, versions of datasets."""
    found = set(manifest_keys(storage))
    found |= {name for name in storage.list_folder("ledger") if f"ledger/{name}".startswith(MANIFESTS)}
    datasets = storage.list_folder("datasets")
    return frozenset(found.union(f"{name}/{version}" for name in datasets for version in list_versions(storage, name)))


def unnamed_objects(storage: Storage) -> Iterator[StoredObject]:
    """Yield what no manifest names, of whatever age; runs and ingests that are at work now leave such objects, too."""
    yield from unnamed_of_nights(storage)
    yield from _unnamed_of_datasets(storage)
    yield from storage.list_objects("staging")
    yield from left_behind(storage)


def unnamed_of_nights(storage: Storage) -> Iterator[StoredObject]:
    """Yield objects of nights that no committed manifest names; runs that can be gone on with count as named."""
    named = read_named(storage, partial(_named, storage))
    for date in night_dates(storage):
        resumable = [plan.run_id for plan in open_plans(date, storage)]
        for stored in storage.list_objects(f"{_RESULTS}/date={date}"):
            name = stored.key.rsplit("/", 1)[-1]
            is_resumable = any(stored.key.startswith(f"{run_prefix(date, run_id)}/") for run_id in resumable)
            if stored.key not in named and not name.startswith(_KEPT_NAMES) and not is_resumable:
                yield stored
    for folder in ("ledger", "quarantine"):
        for stored in storage.list_objects(folder):
            if stored.key.startswith(_NIGHT_TABLES) and stored.key not in named:
                yield stored


def _named(storage: Storage, manifests: Sequence[Manifest]) -> set[str]:
    return compaction_keys(storage, manifests).union(*(named_by(storage, manifest) for manifest in manifests))


def named_by(storage: Storage, manifest: Manifest) -> set[str]:
    """Return the keys of everything that a manifest names, itself left out.

    Raises:
        DigestMismatch: The index is not the one that was committed: on its word nothing may go.
        StorageError: It is gone, or the root is out of reach.
    """
    data = storage.get_verified(manifest.index_key, manifest.index_sha256) if manifest.index_key else b"{}"
    index: dict[str, str] = json.loads(data)
    beside = (manifest.index_key, manifest.watch_key, manifest.replaced_key)
    return {*beside, *(file.key for file in manifest.files), *index}


def _unnamed_of_datasets(storage: Storage) -> Iterator[StoredObject]:
    """Yield parts of dataset versions that have no manifest or are retired, or that the manifest does not name."""
    for name in storage.list_folder("datasets"):
        committed = set(list_versions(storage, name))
        folders = [each for each in storage.list_folder(f"datasets/{name}") if each.startswith("version=")]
        for version in (each.removeprefix("version=") for each in folders):
            prefix = f"datasets/{name}/version={version}/"
            objects = [stored for stored in storage.list_objects(prefix[:-1]) if stored.key.startswith(prefix)]
            notes = (replaced_key(name, version), seen_key(name, version))
            named = _named_parts(storage, name, version) if version in committed else frozenset()
            if named is None:
                logger.warning("dataset %s version %s: its manifest cannot be read, left alone", name, version)
                continue
            is_part = f"{prefix}split="
            yield from (
                stored
                for stored in objects
                if stored.key not in named
                and (version not in committed or stored.key.startswith(is_part))
                and stored.key not in notes
            )


def _named_parts(storage: Storage, name: str, version: str) -> frozenset[str] | None:
    try:
        manifest = read_manifest(storage, resolve_dataset(storage, name, version))
        return frozenset(entry["key"] for entry in manifest["files"])
    except (CrrgError, ValueError, KeyError):
        return None
