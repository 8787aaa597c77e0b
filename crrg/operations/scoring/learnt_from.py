"""What a bundle has seen: films that it was trained, tuned or calibrated on, found again among films to be scored.

A bundle names dataset versions. Their training and validation splits are what it has seen: weights, thresholds,
calibration and the fused classifier come of them. A film is seen where its patient is, or where its pixels are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crrg.config.references import DatasetRef
from crrg.data.dataset.pairs import read_tables, resolve_dataset, version_key
from crrg.data.dataset.rewrite import replaced_versions
from crrg.domain.study import Film, Pair, Split
from crrg.errors import NothingHeldOut
from crrg.operations.privacy.retire_secret import SEEN_SPLITS, read_seen
from crrg.registry.bundle import dataset_versions
from crrg.storage import Storage

_COLUMNS = ("patient_id", "pixel_digest", "source_digest")
_BIASED = {
    Split.TRAIN: "in-sample: the bundle was trained on this split, so its figures say nothing of other films",
    Split.VALIDATION: (
        "tuned on: weights, thresholds and calibration were chosen on this split, so its figures are better than those "
        "of other films"
    ),
}
_NOT_TEST = "not a test split: the baselines and the probe beside the figures are fitted on splits like this one"


@dataclass(frozen=True)
class LearntFrom:
    """What bundles have seen.

    Attributes:
        patients: Patients, by pseudonym.
        films: Digests of pixels.
        versions: Dataset versions.
        unknown: What cannot be looked at: versions that are not under the root, parts that others trained.
    """

    patients: frozenset[str]
    films: frozenset[bytes]
    versions: frozenset[str]
    unknown: tuple[str, ...] = ()

    def has_seen(self, pair: Pair) -> bool:
        """Return whether a film is of a patient that was learnt from, or equals a film that was."""
        return pair.patient_id in self.patients or (pair.film is not None and pair.film.pixel_digest in self.films)


@dataclass(frozen=True)
class ScoredFilms:
    """Which films of a split are scored, and what must be said of it.

    Attributes:
        films: Those to score.
        num_left_out: How many were left out, since the bundle has seen them.
        is_held_out: Whether the bundle has seen none of those to score, as far as that is known.
        remarks: The same in words.
    """

    films: list[tuple[Pair, Film]]
    num_left_out: int
    is_held_out: bool
    remarks: tuple[str, ...]


def learnt_from(specs: Sequence[Mapping[str, Any]], storage: Storage) -> LearntFrom:
    """Look up what bundles have seen.

    Args:
        specs: Their ``bundle.json``.
        storage: Root with the datasets.

    Raises:
        DigestMismatch: A part of a dataset is not what its manifest recorded.
    """
    patients: set[str] = set()
    films: set[bytes] = set()
    versions = {version for spec in specs for version in dataset_versions(spec)}
    unknown = [
        f"{name} was trained by others ({config['imported']['source']})"
        for spec in specs
        for name, config in spec["stages"].items()
        if "imported" in config
    ]
    for version in sorted(versions):
        found = _datasets(storage, version)
        if found is None:
            unknown.append(f"dataset version {version} is not under this root")
        for dataset, seen in found or ():
            for row in _rows(storage, dataset, seen):
                patients.add(row["patient_id"])
                if row["pixel_digest"] is not None:
                    films.add(row["pixel_digest"])
    return LearntFrom(frozenset(patients), frozenset(films), frozenset(versions), tuple(dict.fromkeys(unknown)))


def choose_films(
    known: Sequence[tuple[Pair, Film]], learnt: LearntFrom, dataset: DatasetRef, split: Split
) -> ScoredFilms:
    """Leave out of a test split what a bundle has seen; keep another split whole, and say what its figures are worth.

    Args:
        known: Films of the split.
        learnt: What the bundle has seen.
        dataset: Whose split.
        split: Part of it.

    Raises:
        NothingHeldOut: Nothing of a test split is left.
    """
    remarks = [f"whether films were seen in training is not fully known: {each}" for each in learnt.unknown]
    seen = [pair for pair, _ in known if learnt.has_seen(pair)]
    of_all = (
        f"{len(seen)} of {len(known)} films ({len({pair.patient_id for pair in seen})} of "
        f"{len({pair.patient_id for pair, _ in known})} patients)"
    )
    if split is not Split.TEST:
        worth = _BIASED[split] if dataset.version in learnt.versions else _NOT_TEST
        told = [worth, f"{of_all} were seen in training"] if seen else [worth]
        return ScoredFilms(list(known), 0, False, (*told, *remarks))
    if seen:
        remarks.insert(0, f"{of_all} are left out: the bundle was trained, tuned or calibrated on them")
    kept = [(pair, film) for pair, film in known if not learnt.has_seen(pair)]
    if seen and not kept:
        raise NothingHeldOut(
            f"all {len(seen)} films of split {split} were seen in training, so that nothing can be said of others; "
            "name a dataset with films of other patients",
            f"dataset {dataset.name}",
        )
    return ScoredFilms(kept, len(seen), True, tuple(remarks))


def _datasets(storage: Storage, version: str) -> tuple[tuple[DatasetRef, frozenset[bytes] | None], ...] | None:
    """Return the datasets of a version, as they are without patients that were removed; ``None`` where none is known.

    Beside each what the version had for training, where a changed secret drew its splits anew. Versions of which
    nothing is left are known, and empty.
    """
    found: list[tuple[DatasetRef, frozenset[bytes] | None]] = []
    is_known = False
    for name in storage.list_folder("datasets"):
        newest, seen, replaced = version, None, replaced_versions(storage, name)
        while newest in replaced:
            seen = read_seen(storage, name, newest) if seen is None else seen
            newest, is_known = replaced[newest], True
        if newest and storage.exists(version_key(name, newest)):
            found.append((resolve_dataset(storage, name, newest), seen))
    return tuple(found) if found or is_known else None


def _rows(storage: Storage, dataset: DatasetRef, seen: frozenset[bytes] | None) -> Iterable[dict[str, Any]]:
    for split in SEEN_SPLITS if seen is None else Split:
        for table in read_tables(storage, dataset, split, _COLUMNS):
            for row in table.to_pylist():
                if seen is None or (row["pixel_digest"] or row["source_digest"]) in seen:
                    yield row
