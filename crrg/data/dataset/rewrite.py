"""A dataset version without some of its rows: written as a version of its own, then the old one is taken away.

Nothing is changed in place. ``_replaced.json`` in the old version's folder says which version took its place: from then
on it does not count, and who asks for it is told so. Then its manifest goes, so that nobody else believes it any more,
and its bytes. Which rows go is decided by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crrg.config.references import DatasetRef
from crrg.data.dataset.acquisition_table import AcquisitionRows, read_acquisitions
from crrg.data.dataset.data_card import CARD_FIGURES, DataCard, write_card
from crrg.data.dataset.pairs import (
    commit_parts,
    newest_version,
    point_to,
    read_manifest,
    read_tables,
    replaced_key,
    version_key,
    version_prefix,
)
from crrg.data.dataset.parts import open_writers
from crrg.data.dataset.staging import row_digest
from crrg.domain.study import Split
from crrg.storage import Storage, canonical_json


@dataclass(frozen=True)
class RewrittenVersion:
    """A version and what took its place.

    Attributes:
        old: The version that some rows were taken out of.
        new_version: The version without them; empty where no row is left.
        removed: Numbers of the rows that went, ascending, by split.
    """

    old: DatasetRef
    new_version: str
    removed: Mapping[str, tuple[int, ...]]

    @property
    def num_removed(self) -> int:
        """How many rows went."""
        return sum(len(numbers) for numbers in self.removed.values())


def rewrite_version(
    storage: Storage, dataset: DatasetRef, keep: Callable[[Mapping[str, Any]], bool]
) -> RewrittenVersion:
    """Write a version again without some rows; the old version stays until ``retire_version``.

    Args:
        storage: Where ``datasets/`` lies.
        dataset: The version; a row group is in memory at a time.
        keep: Whether a row of ``PAIR_SCHEMA`` stays.

    Raises:
        DigestMismatch: A part of the version is not what its manifest recorded.
    """
    manifest = read_manifest(storage, dataset)
    card, known, kept = DataCard(), read_acquisitions(storage, manifest), AcquisitionRows()
    removed: dict[str, list[int]] = {split.value: [] for split in Split}
    with open_writers() as writers:
        for split, writer in writers.items():
            number = 0
            for table in read_tables(storage, dataset, split):
                for row in table.to_pylist():
                    if keep(row):
                        acquisition = known[row["instance_id"]]
                        writer.add(row, row_digest(row))
                        kept.add(row, acquisition)
                        card.add(row, split, acquisition)
                    else:
                        removed[split.value].append(number)
                    number += 1
            writer.close()
        numbers = {name: tuple(rows) for name, rows in removed.items()}
        if not any(writer.num_rows for writer in writers.values()):
            return RewrittenVersion(dataset, "", numbers)
        num_removed = sum(len(rows) for rows in numbers.values())
        new = commit_parts(
            storage,
            dataset.name,
            writers,
            kept,
            manifest["settings"],
            lambda ref: _record(storage, dataset, ref, manifest["ingest"], card, num_removed),
        )
    return RewrittenVersion(dataset, new.version, numbers)


def retire_version(storage: Storage, rewritten: RewrittenVersion) -> None:
    """Take the old version away, and let the dataset's name mean the new one where it meant the old."""
    old = rewritten.old
    # the name before the note: cut off in between, the old version still counts and is rewritten once more
    if newest_version(storage, old.name) == old.version:
        if rewritten.new_version:
            point_to(storage, old.model_copy(update={"version": rewritten.new_version}))
        else:
            storage.delete(f"datasets/{old.name}/_latest.json")
    note_successor(storage, old.name, old.version, rewritten.new_version)
    remove_retired(storage, old.name)


def note_successor(storage: Storage, name: str, version: str, successor: str) -> None:
    """Note that a version is retired, and what took its place; from then on it does not count."""
    storage.put(replaced_key(name, version), canonical_json({"replaced_by": successor, "schema_version": 1}))


def remove_retired(storage: Storage, name: str, *, must: bool = True) -> None:
    """Remove what is left of retired versions of a dataset; what a run that was cut off left behind, too.

    Args:
        storage: Where ``datasets/`` lies.
        name: Dataset name.
        must: Whether this process has to be allowed to; else ``crrg gc`` does what it may not.
    """
    remove = storage.delete if must else storage.discard
    for version in replaced_versions(storage, name):
        note = replaced_key(name, version)
        kept = (note, seen_key(name, version))
        left = [stored.key for stored in storage.list_objects(note.rpartition("/")[0]) if stored.key not in kept]
        for key in sorted(left, key=lambda each: each != version_key(name, version)):
            if remove(key) is False:
                return


def seen_key(name: str, version: str) -> str:
    """Return where it stands which rows of its successor a version of an earlier secret had for training."""
    return f"datasets/{name}/version={version}/_seen.json"


def replaced_versions(storage: Storage, name: str) -> dict[str, str]:
    """Return which versions of a dataset were retired, and what took their place; empty text where nothing was left."""
    keys = [stored.key for stored in storage.list_objects(f"datasets/{name}")]
    notes = [key for key in keys if key.endswith("/_replaced.json")]
    versions = [key.split("/version=", 1)[1].split("/", 1)[0] for key in notes]
    found = {version: str(storage.get_json(key)["replaced_by"]) for version, key in zip(versions, notes, strict=True)}
    return {version: successor for version, successor in found.items() if successor != version}


def _record(
    storage: Storage, old: DatasetRef, new: DatasetRef, ingest: Mapping[str, Any], card: DataCard, num_removed: int
) -> Mapping[str, Any]:
    """Write the new card and return what the manifest says of the ingest; inputs that went were never there."""
    key = f"{version_prefix(old)}/{CARD_FIGURES[0]}"
    counts = {name: ingest[name] - num_removed for name in ("num_inputs", "num_accepted") if name in ingest}
    if not storage.exists(key):
        return {**ingest, **counts}
    earlier = storage.get_json(key)
    shown = {name: earlier[name] - num_removed for name in ("num_inputs", "num_accepted")}
    about = {**earlier, **shown, "version": new.version}
    return {**ingest, **counts, "card": write_card(storage, version_prefix(new), card, about)}
