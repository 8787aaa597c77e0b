"""Pairs of film and report as Parquet: the writer and the reader of dataset versions.

A dataset version is believed only through its manifest, which is written last. The columns stand in ``pair_schema``,
how rows lie in files in ``parts``; training reads at random through ``reader``. Nothing here decodes a source
(``film``) or prepares a batch (``batches``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Protocol

import pyarrow as pa

from crrg.checked_json import check_schema_version, checked_json, parse_checked
from crrg.config.data import DEFAULT_IMAGE_SIZE
from crrg.config.references import DatasetRef
from crrg.data.dataset.acquisition_table import MANIFEST_FIELD, AcquisitionRows, read_acquisitions
from crrg.data.dataset.pair_schema import PAIR_SCHEMA, SCHEMA_VERSION, TEXT_COLUMNS, row_to_pair
from crrg.data.dataset.parts import LAYOUT_VERSION, ROW_GROUP_ROWS, PartWriter, open_writers
from crrg.data.dataset.staging import StagedRows
from crrg.data.parquet import open_parquet
from crrg.domain.acquisition import Acquisition
from crrg.domain.study import Pair, Split
from crrg.errors import ConfigError, StorageError
from crrg.local_files import full_disk_named
from crrg.storage import Storage, canonical_json, hash_json

__all__ = [
    "PAIR_SCHEMA",
    "ROW_GROUP_ROWS",
    "SCHEMA_VERSION",
    "TEXT_COLUMNS",
    "WritePlan",
    "check_dataset_name",
    "commit_parts",
    "dataset_image_size",
    "list_versions",
    "newest_version",
    "point_to",
    "read_manifest",
    "read_pairs",
    "read_tables",
    "replaced_key",
    "resolve_dataset",
    "successor_of",
    "version_key",
    "version_prefix",
    "write_dataset",
]

_NAMED = 10
"""Versions or datasets that a message names at most."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class WritePlan(Protocol):
    """What decides about rows when all of them are known, and what is recorded of them."""

    def splits(self) -> Sequence[Split | None]:
        """Return the split of every pair, in the order in which they came; ``None`` leaves one out."""

    def see(self, row: Mapping[str, Any], split: Split, acquisition: Acquisition) -> None:
        """Look at a row of ``PAIR_SCHEMA`` that stays and what is known beside it; called for every one in order."""

    def record(self, dataset: DatasetRef) -> Mapping[str, Any]:
        """Write what belongs beside the parts, right before the commit; what is returned stands in the manifest."""


def write_dataset(
    storage: Storage,
    name: str,
    pairs: Iterable[Pair],
    settings: Mapping[str, Any],
    plan: WritePlan | None = None,
) -> DatasetRef:
    """Write pairs as one dataset version and commit it by its manifest.

    Rows wait in local temporary files, since the version is a fingerprint over what they hold. Equal pairs and
    settings give the same version; a version that exists is left as it is.

    Args:
        storage: Where ``datasets/`` lies.
        name: Dataset name: lower-case letters, digits, ``.``, ``_``, ``-``.
        pairs: Rows in the order in which they shall lie. Consumed once, never held in memory.
        settings: Plain JSON values that shaped the rows, ``image_size`` among them.
        plan: Decides about the rows; without one each goes to the split that it carries. What it records stands in
            the manifest under ``ingest`` and is no part of the fingerprint.

    Returns:
        The committed version.

    Raises:
        ConfigError: The name cannot be used, or there is no row.
        Conflict: Another writer committed other bytes as the same version.
        StorageError: The disk of temporary files is full (``DISK.FULL``), or the store is out of reach.
    """
    check_dataset_name(name)
    with full_disk_named(f"dataset {name}"), open_writers() as writers:
        known = _write_parts(writers, pairs, plan)
        ref = commit_parts(storage, name, writers, known, settings, plan.record if plan else lambda _ref: {})
    point_to(storage, ref)
    return ref


def commit_parts(
    storage: Storage,
    name: str,
    writers: Mapping[Split, PartWriter],
    acquisitions: AcquisitionRows,
    settings: Mapping[str, Any],
    record: Callable[[DatasetRef], Mapping[str, Any]],
) -> DatasetRef:
    """Send local parts and commit them as a version; one that exists is left as it is.

    Args:
        storage: Where ``datasets/`` lies.
        name: Dataset name.
        writers: Closed writers of all splits.
        acquisitions: What is known beside the rows; where that is anything, it counts in the fingerprint.
        settings: What shaped the rows; see ``write_dataset``.
        record: Called right before the commit; what it returns stands in the manifest under ``ingest``.

    Raises:
        ConfigError: There is no row.
        Conflict: Another writer committed other bytes as the same version.
    """
    num_rows = {split.value: writer.num_rows for split, writer in writers.items()}
    if not any(num_rows.values()):
        raise ConfigError("there is no row to write; check the source", f"dataset {name}")
    content = {split.value: writer.content_digest for split, writer in writers.items()}
    if acquisitions.has_known:
        content[MANIFEST_FIELD] = acquisitions.content_digest
    shaped_by = {"schema": SCHEMA_VERSION, "layout": LAYOUT_VERSION, "settings": dict(settings)}
    version = hash_json({**shaped_by, "content": content})
    ref = DatasetRef(name=name, version=version, manifest_key=version_key(name, version), num_rows=num_rows)
    if successor_of(storage, name, version) != version:
        # what was retired comes back, as where a secret was changed back; who writes datasets may not remove the note
        storage.put(replaced_key(name, version), canonical_json({"replaced_by": version, "schema_version": 1}))
    if not storage.exists(ref.manifest_key):
        prefix = version_prefix(ref)
        files = [entry for writer in writers.values() for entry in writer.send(storage, prefix)]
        beside = {MANIFEST_FIELD: acquisitions.send(storage, prefix)} if acquisitions.has_known else {}
        manifest = {**_manifest(ref, files, settings, record(ref)), **beside}
        storage.put_if_absent(ref.manifest_key, checked_json(manifest))
    return ref


def _write_parts(writers: Mapping[Split, PartWriter], pairs: Iterable[Pair], plan: WritePlan | None) -> AcquisitionRows:
    """Take all pairs, then write those that stay into local parts; what is known beside them stays in memory."""
    known = AcquisitionRows()
    own_splits: list[Split | None] = []
    acquisitions: list[Acquisition] = []
    with closing(StagedRows()) as staged:
        for pair in pairs:
            staged.add(pair)
            own_splits.append(pair.split)
            acquisitions.append(pair.acquisition)
        splits = plan.splits() if plan else own_splits
        for (row, digest), split, acquisition in zip(staged.rows(), splits, acquisitions, strict=True):
            if split is not None:
                writers[split].add(row, digest)
                known.add(row, acquisition)
                if plan is not None:
                    plan.see(row, split, acquisition)
    for writer in writers.values():
        writer.close()
    return known


def resolve_dataset(storage: Storage, name: str, version: str = "") -> DatasetRef:
    """Find a dataset version.

    Args:
        storage: Where ``datasets/`` lies.
        name: Dataset name.
        version: Its fingerprint; empty for the version that was ingested last.

    Raises:
        ConfigError: There is no such dataset or version.
    """
    check_dataset_name(name)
    version = version or newest_version(storage, name)
    key = version_key(name, version)
    if version and (successor := successor_of(storage, name, version)) != version:
        way_out = f"use version {successor}" if successor else "nothing of it is left; ingest again"
        raise ConfigError(
            f"version {version} was retired, since a patient was removed or the pseudonym secret changed; {way_out}",
            f"dataset {name}",
        )
    if not version or not storage.exists(key):
        raise ConfigError(
            f"there is no such dataset version in {storage.root} ({_existing(storage, name)}); run crrg ingest",
            f"dataset {name}",
        )
    return DatasetRef(name=name, version=version, manifest_key=key, num_rows=_read_manifest(storage, key)["num_rows"])


def _existing(storage: Storage, name: str) -> str:
    """Return in words which versions of a dataset there are, or else which datasets."""
    versions = [each.removeprefix("version=") for each in storage.list_folder(f"datasets/{name}") if "version=" in each]
    if versions:
        return f"existing versions: {', '.join(versions[:_NAMED])}"
    return f"existing datasets: {', '.join(storage.list_folder('datasets')[:_NAMED]) or 'none'}"


def read_manifest(storage: Storage, dataset: DatasetRef) -> dict[str, Any]:
    """Return a dataset's manifest.

    Raises:
        StorageError: Its schema version is not one that this program knows, or it is damaged.
    """
    return _read_manifest(storage, dataset.manifest_key)


def _read_manifest(storage: Storage, key: str) -> dict[str, Any]:
    data = storage.get(key)
    try:
        return parse_checked(data, partial(_check_version, key))
    except ValueError:
        raise StorageError("the manifest is damaged; restore it from a backup, or ingest again", key) from None


def _check_version(key: str, manifest: Mapping[str, Any]) -> None:
    check_schema_version(manifest.get("schema_version"), [SCHEMA_VERSION], key, or_else="ingest again")


def read_tables(
    storage: Storage, dataset: DatasetRef, split: Split, columns: Iterable[str] | None = None
) -> Iterator[pa.Table]:
    """Yield a split's row groups as Arrow tables, in the order in which they were written.

    Args:
        storage: Where ``datasets/`` lies.
        dataset: The version to read.
        split: Part of it.
        columns: Column names to read; all where not given.

    Raises:
        DigestMismatch: A part's bytes are not the recorded ones.
    """
    wanted = None if columns is None else list(columns)
    for entry in read_manifest(storage, dataset)["files"]:
        if entry["split"] != split.value:
            continue
        data = storage.get_verified(entry["key"], entry["sha256"])
        file = open_parquet(data)
        for index in range(file.num_row_groups):
            yield file.read_row_group(index, columns=wanted, use_threads=False)


def read_pairs(storage: Storage, dataset: DatasetRef, split: Split, limit: int = 0) -> Iterator[Pair]:
    """Yield a split's pairs, in the order in which they were written, with what is known beside them.

    Args:
        storage: Where ``datasets/`` lies.
        dataset: The version to read.
        split: Part of it.
        limit: Most pairs to yield; 0 = all.

    Raises:
        DigestMismatch: A part's bytes are not the recorded ones.
    """
    count, known = 0, read_acquisitions(storage, read_manifest(storage, dataset))
    for table in read_tables(storage, dataset, split):
        for row in table.to_pylist():
            yield row_to_pair(row, split, known[row["instance_id"]])
            count += 1
            if limit and count >= limit:
                return


def check_dataset_name(name: str) -> None:
    """Refuse a dataset name that cannot stand in a key.

    Raises:
        ConfigError: The name holds anything but lower-case letters, digits, ``.``, ``_``, ``-``, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "use 1 to 63 characters of a-z, 0-9, '.', '_', '-', starting with a letter or digit", "dataset name"
        )


def point_to(storage: Storage, dataset: DatasetRef) -> None:
    """Make a committed version the one that its name alone resolves to."""
    storage.put(_pointer_key(dataset.name), canonical_json({"version": dataset.version}))


def dataset_image_size(storage: Storage, dataset: DatasetRef) -> int:
    """Return the longer side of a version's films, pixels; an ingest's default where that is not recorded."""
    return int(read_manifest(storage, dataset)["image_size"] or DEFAULT_IMAGE_SIZE)


def version_prefix(dataset: DatasetRef) -> str:
    """Return the key prefix under which everything of a version lies."""
    return f"datasets/{dataset.name}/version={dataset.version}"


def list_versions(storage: Storage, name: str) -> list[str]:
    """Return the committed versions of a dataset that are not retired, the oldest first."""
    stored = storage.list_objects(f"datasets/{name}")
    found = [each for each in stored if each.key.endswith("/_manifest.json")]
    found.sort(key=lambda each: (each.modified_s, each.key))
    versions = [each.key.split("/version=", 1)[1].split("/", 1)[0] for each in found]
    noted = {each.key for each in stored if each.key.endswith("/_replaced.json")}
    return [
        version
        for version in versions
        if replaced_key(name, version) not in noted or successor_of(storage, name, version) == version
    ]


def _manifest(
    ref: DatasetRef, files: list[dict[str, Any]], settings: Mapping[str, Any], record: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "name": ref.name,
        "version": ref.version,
        "image_size": settings.get("image_size"),
        "settings": dict(settings),
        "num_rows": ref.num_rows,
        "files": files,
        "ingest": dict(record),
    }


def replaced_key(name: str, version: str) -> str:
    """Return where it stands that a version was retired, and which one took its place.

    A version was retired since some patients were removed or the secret of the pseudonyms changed; what is left of it
    goes as soon as somebody may remove it. A version that names itself came back.
    """
    return f"datasets/{name}/version={version}/_replaced.json"


def newest_version(storage: Storage, name: str) -> str:
    """Return the version that a dataset's name alone resolves to; empty where there is none."""
    if storage.exists(_pointer_key(name)):
        return str(storage.get_json(_pointer_key(name))["version"])
    versions = list_versions(storage, name)
    return versions[-1] if versions else ""


def successor_of(storage: Storage, name: str, version: str) -> str:
    """Return the version that took the place of a retired one in the end: itself where it counts, empty for none.

    Args:
        storage: Where ``datasets/`` lies.
        name: Dataset name.
        version: A fingerprint.
    """
    while storage.exists(key := replaced_key(name, version)):
        successor = str(storage.get_json(key)["replaced_by"])
        if successor in ("", version):
            return successor
        version = successor
    return version


def version_key(name: str, version: str) -> str:
    """Return the key of a version's manifest."""
    return f"datasets/{name}/version={version}/_manifest.json"


def _pointer_key(name: str) -> str:
    return f"datasets/{name}/_latest.json"
