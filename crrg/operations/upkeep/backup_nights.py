"""Nights in a backup: their manifests as of one moment, what these name, and whether a backup holds all of it.

Nights commit and are written again while a backup is made. What counts of them is read once, before anything is
listed; from then on the backup believes these manifests alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeAlias

from crrg.errors import ConfigError, StorageError
from crrg.ledger.manifest import READERS, Manifest, current_manifests, manifest_keys, parse_manifest
from crrg.operations.upkeep.backup_list import Entry
from crrg.storage import Storage

Read: TypeAlias = Callable[[str, str], bytes]
NIGHT_OBJECTS = ("results/date=", "ledger/date=", "quarantine/date=")
_MANIFEST = re.compile(r"results/date=[\d-]+/_manifest-\d+\.json")
_RUN = re.compile(r"results/date=([\d-]+)/run=([^/]+)/")


def night_pointers(storage: Storage) -> dict[str, bytes]:
    """Return all manifests of nights by key, so that no night is missing that is written again meanwhile.

    Raises:
        StorageError: The root is out of reach.
    """
    keys = manifest_keys(storage)
    while True:
        lost, pointers = None, {}
        try:
            with ThreadPoolExecutor(READERS, thread_name_prefix="pointers") as pool:
                pointers = dict(zip(keys, pool.map(storage.get, keys), strict=True))
        except StorageError as error:
            lost = error
        before, keys = keys, manifest_keys(storage)
        if keys != before and (lost is None or not lost.retryable):
            continue
        if lost is not None:
            raise lost
        return pointers


def pointed_manifests(pointers: Mapping[str, bytes]) -> list[Manifest]:
    """Return the committed runs among objects by key, as ``read_manifests`` would read them."""
    return current_manifests(parse_manifest(key, pointers[key]) for key in pointers if _MANIFEST.fullmatch(key))


def recorded_objects(manifest: Manifest, read: Read) -> dict[str, str]:
    """Return the sha256 of every object of a run that its manifest tells of, by key.

    Args:
        manifest: The run's manifest.
        read: Returns an object, verified by its digest.

    Raises:
        DigestMismatch: The index is not the one that the manifest recorded.
        StorageError: It is gone, or the store is out of reach.
    """
    digests = {file.key: file.sha256 for file in manifest.files}
    if manifest.index_key:
        digests[manifest.index_key] = manifest.index_sha256
        digests |= json.loads(read(manifest.index_key, manifest.index_sha256))
    if manifest.watch_key:
        digests[manifest.watch_key] = manifest.watch_sha256
    return digests


def check_nights_whole(entries: Mapping[str, Entry], read: Read) -> None:
    """Check that a backup holds every night that is in it as a whole.

    Args:
        entries: Its objects by key.
        read: Returns one of them by its key, verified by its digest.

    Raises:
        ConfigError: Something is missing, or is not what a night's manifest recorded.
        DigestMismatch: A manifest or an index in the backup is damaged.
    """
    digests = {key: entry.sha256 for key, entry in entries.items()}
    keys = [key for key in digests if _MANIFEST.fullmatch(key)]
    with ThreadPoolExecutor(READERS, thread_name_prefix="pointers") as pool:
        pointers = dict(zip(keys, pool.map(read, keys, map(digests.__getitem__, keys)), strict=True))
        manifests = pointed_manifests(pointers)
        for manifest, missing in zip(manifests, pool.map(partial(_missing, read, digests), manifests), strict=True):
            if missing:
                raise _not_whole(manifest.date, f"{len(missing)} objects that its manifest names are not in it")
    for date in sorted({date for date, _ in _nameless_runs(digests, manifests)} & _sealed(pointers)):
        raise _not_whole(date, "it holds drafts of the night without their manifest")


def _missing(read: Read, digests: Mapping[str, str], manifest: Manifest) -> list[str]:
    if manifest.index_key and digests.get(manifest.index_key) != manifest.index_sha256:
        return [manifest.index_key]
    wanted = recorded_objects(manifest, read)
    lost = [key for key, sha256 in wanted.items() if digests.get(key) != sha256]
    return lost + [key for key in (manifest.replaced_key,) if key and key not in digests]


def _nameless_runs(keys: Iterable[str], manifests: Iterable[Manifest]) -> set[tuple[str, str]]:
    found = (_RUN.match(key) for key in keys)
    return {(match[1], match[2]) for match in found if match} - {(each.date, each.run_id) for each in manifests}


def _sealed(pointers: Mapping[str, bytes]) -> set[str]:
    """Return the nights of which a manifest was sealed, as that of a run that was written again."""
    parsed = (parse_manifest(key, data) for key, data in pointers.items())
    return {manifest.date for manifest in parsed if manifest.status == "sealed"}


def _not_whole(date: str, why: str) -> ConfigError:
    return ConfigError(f"the night {date} is incomplete in this backup: {why}; use another backup", "source")
