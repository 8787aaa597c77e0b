"""A root copied elsewhere, and back: what manifests name, with ledger, audit, aliases and models, by digest.

Left out is what can be made again or must not travel: left-overs that no manifest names, unfinished runs, training
states, staging, leases, the stop flag, metrics that wait, the demo's secret, and the private orchestrator's records.
``_backup.json`` is written last and lists every object with its digest; a backup without it is unfinished and goes on
where it was, or counts as it was before (``backup_list``). Manifests and pointers are copied after what they name;
those of nights as they were read before anything was listed, so that a night that commits meanwhile is in the
next backup, and one that is written again is whole in this one. Paths in manifests are relative: a restored root works
wherever it lies, with the same secret.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from crrg.data.dataset.acquisition_table import MANIFEST_FIELD
from crrg.data.dataset.pairs import list_versions, read_manifest, resolve_dataset
from crrg.errors import ConfigError, DigestMismatch, StorageError
from crrg.ledger.audit import PREFIX as AUDIT
from crrg.ledger.audit import RESTORE, write_audit
from crrg.ledger.compaction import MANIFESTS
from crrg.ledger.manifest import run_prefix
from crrg.local_files import check_folder
from crrg.operations.privacy.traces import open_runs
from crrg.operations.root import PREFECT_HOME, overlap
from crrg.operations.upkeep.backup_list import LIST_KEY, SCHEMA_VERSION, Entry, free_name, read_list, write_list
from crrg.operations.upkeep.backup_nights import (
    NIGHT_OBJECTS,
    check_nights_whole,
    night_pointers,
    pointed_manifests,
    recorded_objects,
)
from crrg.operations.upkeep.gc import unnamed_objects
from crrg.progress import count_progress
from crrg.storage import Storage, StoredObject, canonical_json, hash_json
from crrg.working_folder import working_folder

T = TypeVar("T")
U = TypeVar("U")
BEGUN_KEY = "_backup_begun.json"
DATABASE = "mlflow.db"
COPIERS = 8
TRIES = 3
_LEFT_OUT = ("staging/", "leases/", "spool/", "control/STOP", "demo.key", "mlflow.db-", f"{PREFECT_HOME}/")
_COMMITS = ("_manifest", "bundle.json", "result.json", "_latest.json", "models/aliases/")


@dataclass(frozen=True)
class Copied:
    """What a backup or a restore did.

    Attributes:
        num_objects: Objects of the backup.
        num_bytes: Their size.
        num_copied: Copied now; the others were there.
        num_removed: Objects of an earlier backup that the root has no longer.
    """

    num_objects: int
    num_bytes: int
    num_copied: int
    num_removed: int = 0


def back_up(storage: Storage, destination: str) -> Copied:
    """Copy a root into a place of its own; a second time only what is new. Audited, the place by a digest.

    Args:
        storage: The root.
        destination: Folder or URL: empty, or with an earlier backup.

    Raises:
        ConfigError: The destination is a file, holds something else, or lies within the root or around it.
        DigestMismatch: An object is not what its manifest recorded; restore it first.
        StorageError: A store is out of reach, or nights were written again meanwhile; run it again.
    """
    target = storage.at(destination)
    _check_apart(storage, target)
    earlier = read_list(target)
    there = {stored.key: stored for stored in target.list_objects()}
    if not earlier and there and BEGUN_KEY not in there:
        raise ConfigError("this place contains something other than a backup; give an empty one", "destination")
    target.put(BEGUN_KEY, canonical_json({"schema_version": SCHEMA_VERSION}))
    # before anything leaves, so that the entry stands in the backup, too, and one that was cut off is known
    write_audit(storage, "backup", outputs=(hash_json(target.root, 64),))
    pointers, recorded, chosen = _prepared(storage)
    taken = frozenset(entry.name for entry in earlier.values())
    copying = _Copying(storage, target, earlier, there, taken, pointers, recorded)
    entries: dict[str, Entry] = {}
    num_copied = 0
    for key, entry, is_new in _copied(_in_order(chosen, lambda stored: stored.key), copying.copy, "backup"):
        entries[key] = entry
        num_copied += is_new
    write_list(target, entries)
    for name in sorted(there.keys() - {*(entry.name for entry in entries.values()), LIST_KEY, BEGUN_KEY}):
        target.delete(name)
    target.delete(BEGUN_KEY)
    num_removed = len(earlier.keys() - entries.keys())
    return Copied(len(entries), sum(entry.size for entry in entries.values()), num_copied, num_removed)


def restore(storage: Storage, source: str) -> Copied:
    """Copy a backup into an empty root, every object verified; one that was cut off goes on where it was. Audited.

    Args:
        storage: The root.
        source: Folder or URL of the backup.

    Raises:
        ConfigError: There is no finished backup, a night in it is not whole, or the root holds something else.
        DigestMismatch: An object of the backup is damaged; use another backup.
        StorageError: A store is out of reach; run it again.
    """
    backup = storage.at(source)
    _check_apart(storage, backup)
    entries = read_list(backup)
    if not entries:
        raise ConfigError("there is no finished backup here; run crrg backup to its end, or give another place", source)
    check_nights_whole(entries, lambda key, sha256: backup.get_verified(entries[key].name, sha256))
    there = {stored.key for stored in storage.list_objects()}
    foreign = sorted(key for key in there - entries.keys() if not _is_since(key, entries))
    # no backup holds an orchestrator's records: a command that failed here before may have left some
    if foreign := [key for key in foreign if not key.startswith(f"{PREFECT_HOME}/")]:
        reason = f"the root is not empty ({len(foreign)} objects are not from this backup)"
        raise ConfigError(f"{reason}; restore into an empty root (--root NEW)", foreign[0])

    def copy(key: str) -> bool:
        sha256 = entries[key].sha256
        if key in there:
            if storage.sha256(key) != sha256:
                raise ConfigError("the root holds another version; restore into an empty root", key)
            return False
        # buckets let an entry of the audit be written only where there is none
        write = storage.put_if_absent if key.startswith(f"{AUDIT}/") else storage.put
        write(key, backup.get_verified(entries[key].name, sha256))
        return True

    num_copied = sum(_copied(_in_order(entries, str), copy, "restore"))
    if num_copied or not any(_is_since(key, entries) for key in there):
        counts = {"objects": len(entries), "copied": num_copied}
        write_audit(storage, RESTORE, inputs=(hash_json(backup.root, 64),), counts=counts)
    return Copied(len(entries), sum(entry.size for entry in entries.values()), num_copied)


def _is_since(key: str, entries: Iterable[str]) -> bool:
    """Return whether a key is of the audit after the backup was made: a restore appends an entry of its own."""
    last = max((each for each in entries if each.startswith(f"{AUDIT}/")), default="")
    return key.startswith(f"{AUDIT}/") and key > last


@dataclass(frozen=True)
class _Copying:
    """What a backup knows of both sides before it copies."""

    storage: Storage
    target: Storage
    earlier: Mapping[str, Entry]
    there: Mapping[str, StoredObject]
    taken: frozenset[str]
    pointers: Mapping[str, bytes]
    recorded: Mapping[str, str]

    def copy(self, stored: StoredObject) -> tuple[str, Entry, bool]:
        """Copy an object unless it is there; return its key, its entry in the list, and whether it was copied now."""
        key, known = stored.key, self.earlier.get(stored.key)
        if known is not None and self._is_same(stored, known):
            return key, known, False
        data = self.pointers.get(key) or _read(self.storage, key, self.recorded.get(key))
        sha256 = hashlib.sha256(data).hexdigest()
        name = known.name if known is not None and known.sha256 == sha256 else free_name(key, sha256, self.taken)
        is_there = name in self.there and self.there[name].size == len(data) and self.target.sha256(name) == sha256
        if not is_there:
            self.target.put(name, data)
        # what was read before it was listed may have another mark by now: a later backup looks at it again
        mark = "" if key in self.pointers else stored.etag
        return key, Entry(len(data), sha256, mark, name), not is_there

    def _is_same(self, stored: StoredObject, known: Entry) -> bool:
        """Return whether an object changed on neither side since an earlier backup, and is what manifests record."""
        is_unchanged = (known.size, known.mark) == (stored.size, stored.etag) and known.is_whole(self.there)
        return is_unchanged and self.recorded.get(stored.key, known.sha256) == known.sha256


def _copied(groups: Sequence[Sequence[T]], copy: Callable[[T], U], what: str) -> Iterator[U]:
    """Copy the items of one group after the other, several at a time."""
    say, total, num_done = count_progress(what, "objects"), sum(map(len, groups)), 0
    for group in groups:
        with ThreadPoolExecutor(COPIERS, thread_name_prefix="copy") as pool:
            for result in pool.map(copy, group):
                num_done += 1
                say(num_done, total)
                yield result


def _check_apart(storage: Storage, other: Storage) -> None:
    check_folder(other.root, "backup")
    if overlap(storage, other):
        reason = "a backup and its root must not be nested in each other; give it another bucket, prefix or folder"
        raise ConfigError(reason, other.root)


def _prepared(storage: Storage) -> tuple[dict[str, bytes], dict[str, str], list[StoredObject]]:
    """Return the pointers of a root, what manifests record of other objects, and the objects of a backup.

    Where nights were written again while all that was read, it is read again.

    Raises:
        DigestMismatch: An index of a night is not what its manifest recorded; restore it first.
        StorageError: Something that manifests name is gone, or nights are written again each time.
    """
    for _ in range(TRIES):
        # pointers are taken before what they point to is listed: what they name is then in the list
        nights = night_pointers(storage)
        try:
            pointers = _pointers(storage, nights)
            recorded = _recorded_digests(storage, nights)
            chosen = _chosen(storage, pointers, recorded)
            _check_whole(chosen, recorded)
        except DigestMismatch:
            raise
        except StorageError:
            if not _written_again(storage, nights):
                raise
            continue
        if not _written_again(storage, nights):
            return pointers, recorded, chosen
    reason = "nights are being rewritten; run crrg backup again when no forget, rekey or retention is running"
    raise StorageError(reason, storage.root, retryable=True)


def _written_again(storage: Storage, nights: Mapping[str, bytes]) -> bool:
    """Return whether a manifest is another one by now; those that were added since are of the next backup."""
    now = night_pointers(storage)
    return any(now.get(key) != data for key, data in nights.items())


def _pointers(storage: Storage, nights: Mapping[str, bytes]) -> dict[str, bytes]:
    keys = [f"datasets/{name}/_latest.json" for name in storage.list_folder("datasets")]
    keys += [f"models/aliases/{name}" for name in storage.list_folder("models/aliases")]
    keys = [key for key in keys if storage.exists(key)]
    keys += [f"ledger/{name}" for name in storage.list_folder("ledger") if f"ledger/{name}".startswith(MANIFESTS)]
    # what pages say of newer drafts, read after the manifests that it must agree with
    keys += [each.replaced_key for each in pointed_manifests(nights) if each.replaced_key]
    with ThreadPoolExecutor(COPIERS, thread_name_prefix="pointers") as pool:
        return {**nights, **dict(zip(keys, pool.map(storage.get, keys), strict=True))}


def _chosen(storage: Storage, pointers: Container[str], recorded: Container[str]) -> list[StoredObject]:
    """Return the objects that belong into a backup: nothing of a night that was committed since pointers were read.

    What such a manifest names may have been listed before it was written.
    """
    stored = storage.list_objects()
    left_out = {each.key for each in unnamed_objects(storage)}
    unfinished = tuple(f"{run_prefix(date, run_id)}/" for date, run_id in open_runs(storage))
    finished = {each.key.rpartition("/")[0] for each in stored if each.key.endswith("/result.json")}

    def belongs(key: str) -> bool:
        if key in left_out or key.startswith((*_LEFT_OUT, *unfinished)):
            return False
        folder, _, name = key.rpartition("/")
        is_named_alone = key.startswith(NIGHT_OBJECTS) or key.startswith(MANIFESTS)
        if is_named_alone and key not in pointers and key not in recorded:
            return False
        return not key.startswith("checkpoints/") or (folder in finished and not name.startswith("state-"))

    return [each for each in stored if belongs(each.key)]


def _check_whole(chosen: Iterable[StoredObject], recorded: Iterable[str]) -> None:
    """Check that everything that manifests of nights named before the listing is in it.

    Raises:
        StorageError: Something is not: a night was written again, or something was removed meanwhile.
    """
    listed = {stored.key for stored in chosen}
    missing = sorted(key for key in recorded if key.startswith(NIGHT_OBJECTS) and key not in listed)
    if missing:
        raise StorageError(
            f"{len(missing)} objects that manifests name were removed while the root was listed; run crrg backup "
            "again, and where that says the same, crrg check",
            missing[0],
            retryable=True,
        )


def _recorded_digests(storage: Storage, nights: Mapping[str, bytes]) -> dict[str, str]:
    """Return what manifests of nights, datasets and bundles record of their objects."""
    digests: dict[str, str] = {}
    for manifest in pointed_manifests(nights):
        digests |= recorded_objects(manifest, storage.get_verified)
    for name in storage.list_folder("datasets"):
        for version in list_versions(storage, name):
            written = read_manifest(storage, resolve_dataset(storage, name, version))
            listed = [*written["files"], *written.get("ingest", {}).get("card", [])]
            listed += [written[MANIFEST_FIELD]] if MANIFEST_FIELD in written else []
            listed += [written["ingest"]["quarantine"]] if "quarantine" in written.get("ingest", {}) else []
            digests |= {entry["key"]: entry["sha256"] for entry in listed}
    for name in storage.list_folder("models/bundles"):
        key = f"models/bundles/{name}/bundle.json"
        if storage.exists(key):
            digests |= {f"models/bundles/{name}/{file}": sha for file, sha in storage.get_json(key)["files"].items()}
    return digests


def _read(storage: Storage, key: str, sha256: str | None) -> bytes:
    """Return an object, verified where a manifest says what it must be; of the tracking database one moment's state."""
    if key == DATABASE and storage.is_local:
        return _database_bytes(Path(storage.url(key)))
    try:
        return storage.get_verified(key, sha256) if sha256 else storage.get(key)
    except DigestMismatch as error:
        raise DigestMismatch(f"{error.reason}; it is damaged and was not backed up", key) from error
    except StorageError as error:
        if error.retryable or storage.exists(key):
            raise
        reason = "it was removed while the root was backed up; run crrg backup again to continue"
        raise StorageError(reason, key, retryable=True) from None


def _database_bytes(path: Path) -> bytes:
    with working_folder() as folder:
        copy = folder / DATABASE
        with (
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as live,
            closing(sqlite3.connect(copy)) as still,
        ):
            live.backup(still)
        return copy.read_bytes()


def _in_order(items: Iterable[T], key_of: Callable[[T], str]) -> list[list[T]]:
    """Return items in two groups: what is named by others, then what names it; the tracking database last."""
    ordered = sorted(items, key=key_of)
    commits = [each for each in ordered if any(mark in key_of(each) for mark in (*_COMMITS, DATABASE))]
    names = {key_of(each) for each in commits}
    return [[each for each in ordered if key_of(each) not in names], commits]
