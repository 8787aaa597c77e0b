"""Studies that a night adds an image to: what earlier nights drafted of them moves on into the new draft.

A study is one draft over all its films. Where a film arrives later, the rows, regions and pictures of the study's
earlier films are repeated beside the new one, and the older draft is named as superseded; it stays where it is. Nothing
is drafted again here, hence an earlier film keeps the bundle that drafted it. Where something of it is damaged or gone,
the study is named, and its new film has to wait (``duplicates.py``).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from crrg.config.references import NightPlan
from crrg.errors import StorageError
from crrg.exports.documents import DraftingBundle, report_keys
from crrg.exports.page_pictures import evidence_name, find_pictures, picture_name
from crrg.exports.parquet import REGIONS_SCHEMA, REPORTS_SCHEMA, with_primary
from crrg.ledger.beside import put_beside
from crrg.ledger.ledger import Ledger, LedgerRow, in_commit_order
from crrg.ledger.manifest import Manifest, Superseded, run_prefix
from crrg.ledger.tables import TableFile, read_tables, write_table
from crrg.operations.night.records import InputOutcome
from crrg.storage import Storage

logger = logging.getLogger(__name__)

SUFFIX = "earlier"
"""Of the tables of films that moved on, in place of a shard's number."""


@dataclass(frozen=True)
class EarlierFilms:
    """What earlier nights drafted of the studies that a night adds to.

    Attributes:
        outcomes: One per film that moves on, as if it had been read in this night; of no rank.
        reports: Their report rows.
        regions: Their region rows.
        pictures: Where the films' pictures lie: key and sha256 by their name under the page's folder.
        superseded: The older drafts of these studies.
        bundles: Those that drafted in earlier nights, by ``bundle_id``.
        damaged: Studies of which something that moves on is damaged or gone; where there are any, all else is empty.
    """

    outcomes: tuple[InputOutcome, ...] = ()
    reports: pa.Table = field(default_factory=REPORTS_SCHEMA.empty_table)
    regions: pa.Table = field(default_factory=REGIONS_SCHEMA.empty_table)
    pictures: Mapping[str, tuple[str, str]] | None = None
    superseded: tuple[Superseded, ...] = ()
    bundles: Mapping[str, DraftingBundle] = field(default_factory=dict)
    damaged: frozenset[str] = frozenset()


def find_earlier_films(
    drafted: Iterable[InputOutcome], ledger: Ledger, manifests: Sequence[Manifest], storage: Storage
) -> EarlierFilms:
    """Return the current earlier films of the studies that newly drafted images belong to.

    Args:
        drafted: Images that this night drafts.
        ledger: What earlier nights did.
        manifests: Their committed runs.
        storage: The root.

    Raises:
        StorageError: The root is out of reach.
    """
    newly = list(drafted)
    images = {each.instance_id: each.study_id for each in newly}
    # a study that an image left has a new draft without it
    left = {row.study_id for name in images if (row := ledger.find_draft(name))}
    rows = [row for study in left.union(images.values()) for row in ledger.find_drafts_of(study)]
    if not rows:
        return EarlierFilms()
    replaced = {(each.instance_id, each.run_id) for manifest in manifests for each in manifest.superseded}
    patients = {each.study_id: each.patient_id for each in newly}
    newest = {name: row for name in {each.instance_id for each in rows} if (row := ledger.find_draft(name))}
    collected = _Collected(newest, images, patients)
    holding = _current_studies(rows, manifests, replaced)
    for manifest in reversed(manifests):
        if studies := holding.get(manifest.run_id):
            collected.take(manifest, studies, replaced, storage)
    if collected.damaged:
        return EarlierFilms(damaged=frozenset(collected.damaged))
    bundles = {
        each.bundle.bundle_id: DraftingBundle(each.bundle.model_version, each.thresholds, each.abnormal_threshold)
        for each in manifests
        if each.bundle
    }
    return replace(collected.films(), bundles=bundles)


def write_earlier_films(
    plan: NightPlan, earlier: EarlierFilms, primary: frozenset[str], storage: Storage
) -> list[TableFile]:
    """Write the rows that move on as tables of this run; none where no study has earlier films.

    Args:
        plan: The night.
        earlier: What moves on.
        primary: The image that stands for each study.
        storage: The root.
    """
    if not earlier.outcomes:
        return []
    prefix = run_prefix(plan.date, plan.run_id)
    reports = with_primary(earlier.reports, frozenset(), primary)
    return [
        write_table(storage, f"{prefix}/reports-{SUFFIX}.parquet", reports, "reports"),
        write_table(storage, f"{prefix}/regions-{SUFFIX}.parquet", earlier.regions, "regions"),
    ]


def is_of_earlier_films(file: TableFile) -> bool:
    """Return whether a table holds films that an earlier night drafted."""
    return f"/{file.kind}-{SUFFIX}" in file.key


def copy_pictures(plan: NightPlan, earlier: EarlierFilms, storage: Storage) -> tuple[dict[str, str], frozenset[str]]:
    """Put the pictures of the films that move on beside those of this run.

    Returns:
        The sha256 per new key, and the studies of which a picture is damaged or gone.

    Raises:
        StorageError: The root is out of reach.
    """
    folder, pictures = f"{run_prefix(plan.date, plan.run_id)}/review", earlier.pictures or {}
    copied: dict[str, str] = {}
    damaged: set[str] = set()
    for film in earlier.outcomes:
        for name in (picture_name(film.instance_id), evidence_name(film.instance_id)):
            if name in pictures:
                key, sha256 = pictures[name]
                with _noting({film.study_id}, damaged):
                    data = storage.get_verified(key, sha256)
                if film.study_id not in damaged:
                    copied[put_beside(storage, f"{folder}/{name}", data)] = sha256
    return copied, frozenset(damaged)


def _current_studies(
    rows: Sequence[LedgerRow], manifests: Sequence[Manifest], replaced: Set[tuple[str, str]]
) -> dict[str, set[str]]:
    """Return the studies of which each run holds a film that no newer run replaced, be it one that moved on into it.

    Args:
        rows: The drafts of the studies.
        manifests: All committed runs.
        replaced: Image and run of each draft that is superseded.
    """
    of_runs: dict[str, list[LedgerRow]] = {}
    for row in rows:
        of_runs.setdefault(row.run_id, []).append(row)
    drafted: dict[str, set[str]] = {}
    held: dict[str, set[str]] = {}
    holding: dict[str, set[str]] = {}
    for manifest in in_commit_order(manifests):
        run_id = manifest.run_id
        for row in of_runs.get(run_id, ()):
            drafted.setdefault(row.study_id, set()).add(row.instance_id)
        studies = {row.study_id for row in of_runs.get(run_id, ())}
        # of a study that an image left, all that a run holds moved on into it
        for each in manifest.superseded:
            studies |= {study for study in held.get(each.run_id, ()) if each.instance_id in drafted[study]}
        held[run_id] = studies
        holding[run_id] = {each for each in studies if any((name, run_id) not in replaced for name in drafted[each])}
    return holding


@contextmanager
def _noting(studies: Set[str], damaged: set[str]) -> Iterator[None]:
    """Note studies as damaged where something of theirs is, or is gone, and a second try would not help."""
    try:
        yield
    except StorageError as error:
        if error.retryable:
            raise
        logger.warning("late films of %d studies wait for what an earlier night drafted: %s", len(studies), error)
        damaged |= studies


class _Collected:
    """Films found so far, newest run first."""

    def __init__(self, rows: Mapping[str, LedgerRow], images: Mapping[str, str], patients: Mapping[str, str]) -> None:
        self.rows = rows
        self.images = images
        self.patients = patients
        self.damaged: set[str] = set()
        self.outcomes: dict[str, InputOutcome] = {}
        self.reports: list[dict[str, Any]] = []
        self.regions: list[dict[str, Any]] = []
        self.pictures: dict[str, tuple[str, str]] = {}
        self.superseded: list[Superseded] = []

    def take(self, manifest: Manifest, studies: Set[str], replaced: Set[tuple[str, str]], storage: Storage) -> None:
        """Take what a run holds of studies and no newer run replaced."""
        held: list[dict[str, Any]] = []
        with _noting(studies, self.damaged):
            rows = read_tables(storage, manifest.files, "reports", REPORTS_SCHEMA).to_pylist()
            held = [
                row
                for row in rows
                if row["study_id"] in studies and (row["instance_id"], manifest.run_id) not in replaced
            ]
        self.superseded += [
            Superseded(instance_id=row["instance_id"], date=manifest.date, run_id=manifest.run_id) for row in held
        ]
        moving = [row for row in held if self._moves(row["study_id"], row["instance_id"])]
        if moving:
            with _noting({row["study_id"] for row in moving}, self.damaged):
                self._move(manifest, moving, storage)

    def _move(self, manifest: Manifest, moving: Sequence[dict[str, Any]], storage: Storage) -> None:
        """Take rows, regions and pictures of films that move on; of which a study's document tells the sizes."""
        names = {row["instance_id"] for row in moving}
        regions = read_tables(storage, manifest.files, "regions", REGIONS_SCHEMA).to_pylist()
        index: dict[str, str] = json.loads(storage.get_verified(manifest.index_key, manifest.index_sha256))
        sizes: dict[str, tuple[int, int]] = {}
        for study_id in sorted({row["study_id"] for row in moving}):
            with _noting({study_id}, self.damaged):
                sizes |= _sizes(study_id, index, storage)
        pictures = find_pictures(index, f"{run_prefix(manifest.date, manifest.run_id)}/review/")
        self.reports += moving
        self.regions += [row for row in regions if row["instance_id"] in names]
        for row in moving:
            name = row["instance_id"]
            if row["study_id"] not in self.damaged:
                self.pictures[picture_name(name)] = (key := pictures.film(name), index[key])
                if maps := pictures.evidence(name):
                    self.pictures[evidence_name(name)] = (maps, index[maps])
                self.outcomes[name] = _outcome(self.rows[name], row["view_position"], sizes[name])

    def _moves(self, study_id: str, instance_id: str) -> bool:
        """Whether a film goes on in its study's new draft; one of another patient came again and was refused."""
        patient_id = self.rows[instance_id].patient_id
        is_own = self.patients.get(study_id, patient_id) == patient_id
        return is_own and instance_id not in self.images and instance_id not in self.outcomes

    def films(self) -> EarlierFilms:
        """Return all of it in an order of its own."""
        reports = sorted(self.reports, key=lambda row: (row["study_id"], row["instance_id"]))
        place = {row["instance_id"]: rank for rank, row in enumerate(reports)}
        return EarlierFilms(
            outcomes=tuple(self.outcomes[name] for name in place),
            reports=pa.Table.from_pylist(reports, REPORTS_SCHEMA),
            regions=pa.Table.from_pylist(
                sorted(self.regions, key=lambda row: place[row["instance_id"]]), REGIONS_SCHEMA
            ),
            pictures=self.pictures,
            superseded=tuple(sorted(self.superseded, key=lambda each: (each.date, each.run_id, each.instance_id))),
        )


def _sizes(study_id: str, index: Mapping[str, str], storage: Storage) -> dict[str, tuple[int, int]]:
    """Return width and height in original pixels per image, from a study's document."""
    key = report_keys(index)[study_id]
    films: Sequence[Mapping[str, Any]] = json.loads(storage.get_verified(key, index[key]))["films"]
    return {film["instance_id"]: (film["width"], film["height"]) for film in films}


def _outcome(row: LedgerRow, view_position: str, size: tuple[int, int]) -> InputOutcome:
    return InputOutcome(
        key_hmac=row.key_hmac,
        etag=row.etag,
        rank=-1,
        outcome=row.outcome,
        source_digest=row.source_digest.hex(),
        pixel_digest=row.pixel_digest.hex(),
        patient_id=row.patient_id,
        study_id=row.study_id,
        instance_id=row.instance_id,
        view_position=view_position,
        width=size[0],
        height=size[1],
    )
