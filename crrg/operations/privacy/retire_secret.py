"""Versions of a dataset that an earlier secret named: retired once a version under the present secret took their place.

Ids of two secrets cannot be told to be one person's, so that nobody could ask for a patient in the older versions any
more. They are retired as rewritten ones are (``crrg.data.dataset.rewrite``): their films, records of inputs and drafts
go, and which version followed them stays, since models were trained on them. Which rows of that version they had for
training stays, too, by digests that the version itself holds: what a bundle has seen is told by it (``learnt_from``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from crrg.config.references import DatasetRef
from crrg.data.dataset.pairs import list_versions, read_manifest, resolve_dataset, successor_of
from crrg.data.dataset.rewrite import note_successor, remove_retired, replaced_versions, seen_key
from crrg.data.parquet import read_columns
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.study import Split
from crrg.ledger.audit import write_audit
from crrg.operations.ingest.inputs import read_inputs
from crrg.operations.ingest.staged import staging_folder
from crrg.operations.privacy.secret import versions_of_others
from crrg.operations.training.draft_store import DRAFTS
from crrg.storage import Storage, canonical_json

logger = logging.getLogger(__name__)

SEEN_SPLITS = (Split.TRAIN, Split.VALIDATION)
"""What weights, thresholds and calibration come of."""
_COLUMNS = ["pixel_digest", "source_digest"]


def retire_older_secrets(storage: Storage, dataset: DatasetRef, pseudonyms: Pseudonyms) -> None:
    """Retire the versions of a dataset that other secrets made, audited; what may not be removed, ``crrg gc`` removes.

    Args:
        storage: The root.
        dataset: The version, under the present secret, that takes their place.
        pseudonyms: The present secret.

    Raises:
        StorageError: The root is out of reach.
    """
    retired = tuple(versions_of_others(storage, dataset.name, pseudonyms))
    for version in retired:
        _keep_seen(storage, dataset.name, version, _digests(storage, dataset.name, version, SEEN_SPLITS))
    if retired:
        subject, counts = f"{dataset.name}/{dataset.version}", {"versions": len(retired)}
        write_audit(storage, "retire", subject=subject, inputs=retired, counts=counts)
    for version in retired:
        note_successor(storage, dataset.name, version, dataset.version)
        logger.info("dataset %s: version %s of an earlier secret is retired", dataset.name, version)
    clear_retired(storage, dataset.name, must=False)


def clear_retired(storage: Storage, name: str, *, must: bool = True) -> None:
    """Remove what lies about versions that an earlier secret made: their bytes, records of inputs, shards, drafts.

    Args:
        storage: The root.
        name: Dataset name.
        must: Whether this process has to be allowed to; else it leaves what it may not remove, and drafts, which are
            not an ingest's.
    """
    retired = [version for version in replaced_versions(storage, name) if storage.exists(seen_key(name, version))]
    if not retired:
        return
    _trim_seen(storage, name)
    remove = storage.delete if must else storage.discard
    committed = set(list_versions(storage, name))
    for stored in storage.list_objects(f"datasets/{name}/_inputs"):
        if read_inputs(storage, stored.key)[1].get("version") not in committed:
            remove(stored.key)
    for stored in storage.list_objects(staging_folder(name)):
        remove(stored.key)
    if must or storage.is_local:
        for bundle in storage.list_folder(DRAFTS):
            for folder in storage.list_folder(f"{DRAFTS}/{bundle}"):
                if folder.startswith(tuple(f"{name}-{version}-" for version in retired)):
                    for stored in storage.list_objects(f"{DRAFTS}/{bundle}/{folder}"):
                        remove(stored.key)
    remove_retired(storage, name, must=must)


def _trim_seen(storage: Storage, name: str) -> None:
    """Let what is kept of retired versions speak of rows alone that their successors still hold."""
    for version in replaced_versions(storage, name):
        if (seen := read_seen(storage, name, version)) is not None:
            successor = successor_of(storage, name, version)
            held = _digests(storage, name, successor, Split) if successor else frozenset()
            if not seen <= held:
                _keep_seen(storage, name, version, seen & held)


def read_seen(storage: Storage, name: str, version: str) -> frozenset[bytes] | None:
    """Return digests of the rows that a version of an earlier secret had for training and its successor still holds.

    Of a film its ``pixel_digest``, of a report without one its ``source_digest``; ``None`` where the version was not
    retired for its secret.
    """
    key = seen_key(name, version)
    return frozenset(map(bytes.fromhex, storage.get_json(key)["digests"])) if storage.exists(key) else None


def _keep_seen(storage: Storage, name: str, version: str, digests: Iterable[bytes]) -> None:
    listed = sorted(digest.hex() for digest in digests)
    storage.put(seen_key(name, version), canonical_json({"digests": listed, "schema_version": 1}))


def _digests(storage: Storage, name: str, version: str, splits: Iterable[Split]) -> frozenset[bytes]:
    wanted = {split.value for split in splits}
    found: set[bytes] = set()
    for entry in read_manifest(storage, resolve_dataset(storage, name, version))["files"]:
        if entry["split"] in wanted:
            with storage.open_binary(entry["key"]) as file:
                rows = read_columns(file, _COLUMNS).to_pylist()
            found.update(row["pixel_digest"] or row["source_digest"] for row in rows)
    return frozenset(found)
