"""Study drafts as nights committed them: which are current, what is known of their films, and which ones they replace.

A draft is current until a later commit names it as superseded. Reads manifests and what they name; changes nothing.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from crrg.config.running import DeliverConfig
from crrg.errors import DataError, DigestMismatch, StorageError
from crrg.exports.documents import report_keys
from crrg.exports.parquet import REPORTS_SCHEMA
from crrg.ledger.ledger import DUPLICATE_RESENT, LedgerRow, in_commit_order, read_ledger
from crrg.ledger.manifest import Manifest, read_manifests
from crrg.ledger.tables import read_tables
from crrg.operations.night.rereads import not_found
from crrg.storage import Storage

NUM_INDEXES = 4
"""Indexes of runs that are kept while studies are asked for; one of a large night takes some megabytes."""


@dataclass(frozen=True)
class StudyDraft:
    """A study draft with what is known of its films' sources.

    Attributes:
        manifest: The commit that it is of.
        document: The study document (``documents.py``).
        rows: Newest row of the ledger that drafted each film, by ``instance_id``, where there is one; under the bytes
            that a later night found in its place with another header alone.
        patients: Pseudonyms of the patients for whom nights drafted the study, one after the other: several where a
            header was corrected; of an older draft nothing.
    """

    manifest: Manifest
    document: Mapping[str, Any]
    rows: Mapping[str, LedgerRow]
    patients: Sequence[str] = ()

    @property
    def study_id(self) -> str:
        """Pseudonym of the study."""
        return str(self.document["study_id"])

    @property
    def films(self) -> Sequence[Mapping[str, Any]]:
        """Its films, the primary one first."""
        films: Sequence[Mapping[str, Any]] = self.document["films"]
        return films


class CommittedDrafts:
    """The drafts of all nights so far."""

    def __init__(self, storage: Storage) -> None:
        """Read the manifests and the ledger of a root.

        Raises:
            StorageError: It is out of reach.
        """
        self._storage = storage
        self._manifests = {(each.date, each.run_id): each for each in read_manifests(storage)}
        # a night of an earlier date may have been committed later: the ledger knows the order of commits
        self._ledger = read_ledger(storage)
        self._replaced = {
            (each.instance_id, each.run_id) for manifest in self._manifests.values() for each in manifest.superseded
        }
        self._replaces: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
        for manifest in self._manifests.values():
            for each in manifest.superseded:
                self._replaces[manifest.run_id, each.instance_id].append((each.date, each.run_id))
        self._index = functools.lru_cache(NUM_INDEXES)(self._read_index)

    def current(self, config: DeliverConfig, refuse: Callable[[str, DataError], None]) -> Iterator[StudyDraft]:
        """Yield the drafts of the asked nights that no newer draft replaces, in order of night and study.

        Args:
            config: Which nights and studies are asked for.
            refuse: Told of a study whose document, or its night's index, is not the recorded one, and of the error.
        """
        wanted = set(config.studies)
        for manifest in self._manifests.values():
            if config.date and manifest.date != config.date:
                continue
            for study_id in self._asked_studies(manifest, wanted, refuse):
                try:
                    document = self._document(manifest, study_id)
                except DataError as error:
                    if study_id in self._studies_in_tables(manifest):
                        refuse(study_id, error)
                    continue
                names = [film["instance_id"] for film in document["films"]]
                if not any((name, manifest.run_id) in self._replaced for name in names):
                    rows = {name: row for name in names if (row := self._source_row(name))}
                    given = groupby(row.patient_id for row in self._ledger.find_drafts_of(study_id))
                    yield StudyDraft(manifest, document, rows, tuple(patient_id for patient_id, _ in given))

    def not_found(self, config: DeliverConfig) -> tuple[str, ...]:
        """Return which night and how many studies are asked for that no night drafted, as sentences."""
        drafted = {study_id for study_id in config.studies if self._ledger.find_drafts_of(study_id)}
        return not_found(config.date, config.studies, drafted, self._manifests.values(), "draft")

    def older(self, draft: StudyDraft) -> Iterator[StudyDraft]:
        """Yield the drafts of a study that one replaces, directly or through others, newest first.

        Those that are gone (retention) or damaged are left out.
        """
        names = [film["instance_id"] for film in draft.films]
        runs: set[tuple[str, str]] = set()
        waiting = [draft.manifest.run_id]
        while waiting:
            run_id = waiting.pop()
            found = {run for name in names for run in self._replaces.get((run_id, name), ())} - runs
            runs |= found
            waiting += [run_id for _, run_id in found]
        known = [self._manifests[run] for run in runs if run in self._manifests]
        for manifest in reversed(in_commit_order(known)):
            try:
                if draft.study_id in self._studies(manifest):
                    yield StudyDraft(manifest, self._document(manifest, draft.study_id), {})
            except DataError:
                continue

    def _source_row(self, instance_id: str) -> LedgerRow | None:
        """Return the row that drafted an image; where its object came again as the same image, by its newer bytes."""
        row = self._ledger.find_draft(instance_id)
        last = self._ledger.find_key(row.key_hmac) if row else None
        if row is None or last is None or last.reason != DUPLICATE_RESENT or _image_of(last) != _image_of(row):
            return row
        return replace(row, etag=last.etag, source_digest=last.source_digest)

    def _asked_studies(
        self, manifest: Manifest, wanted: Set[str], refuse: Callable[[str, DataError], None]
    ) -> list[str]:
        """Return the studies of a run that are asked for; where its index is damaged, none, and they are refused."""
        try:
            return sorted(each for each in self._studies(manifest) if not wanted or each in wanted)
        except DataError as error:
            for study_id in sorted(self._studies_in_tables(manifest)):
                if not wanted or study_id in wanted:
                    refuse(study_id, error)
            return []

    def _studies(self, manifest: Manifest) -> Set[str]:
        """Return the studies that a run's index names.

        Raises:
            DataError: INTEGRITY.DIGEST where it is not the one that was committed, INTEGRITY.GONE where it is gone.
            StorageError: The root is out of reach.
        """
        return self._index(manifest.date, manifest.run_id).keys()

    def _studies_in_tables(self, manifest: Manifest) -> set[str]:
        """Return the studies whose drafts of a run no newer one replaces, where documents cannot tell."""
        rows = read_tables(self._storage, manifest.files, "reports", REPORTS_SCHEMA).select(["study_id", "instance_id"])
        return {
            row["study_id"] for row in rows.to_pylist() if (row["instance_id"], manifest.run_id) not in self._replaced
        }

    def _document(self, manifest: Manifest, study_id: str) -> Mapping[str, Any]:
        """Return a study's document.

        Raises:
            DataError: INTEGRITY.DIGEST where it is not the one that was committed, INTEGRITY.GONE where it is gone.
            StorageError: The root is out of reach.
        """
        key, sha256 = self._index(manifest.date, manifest.run_id)[study_id]
        document: Mapping[str, Any] = json.loads(self._get(key, sha256, "its document"))
        return document

    def _read_index(self, date: str, run_id: str) -> dict[str, tuple[str, str]]:
        """Return key and digest of each study's document of a run."""
        manifest = self._manifests[date, run_id]
        if not manifest.index_key:
            return {}
        data = self._get(manifest.index_key, manifest.index_sha256, "the index of its night")
        index: dict[str, str] = json.loads(data)
        return {study_id: (key, index[key]) for study_id, key in report_keys(index).items()}

    def _get(self, key: str, sha256: str, what: str) -> bytes:
        """Return an object that a night committed; see ``_studies`` for what is raised."""
        try:
            return self._storage.get_verified(key, sha256)
        except DigestMismatch as error:
            raise DataError(f"{what} is damaged: {error.reason}", key, code="INTEGRITY.DIGEST") from None
        except StorageError as error:
            if error.retryable or self._storage.exists(key):
                raise
            raise DataError(f"{what} is gone; restore it", key, code="INTEGRITY.GONE") from None


def _image_of(row: LedgerRow) -> tuple[str, str, str, bytes]:
    return row.patient_id, row.study_id, row.instance_id, row.pixel_digest
