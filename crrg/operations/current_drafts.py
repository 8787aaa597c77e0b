"""Study drafts as nights committed them: which are current, what is known of their films, and which ones they replace.

A draft is current until a later commit names it as superseded. Reads manifests and what they name; changes nothing.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from crrg.config.running import DeliverConfig
from crrg.errors import DataError, DigestMismatch, StorageError
from crrg.exports.documents import report_keys
from crrg.ledger.ledger import LedgerRow, in_commit_order, read_ledger
from crrg.ledger.manifest import Manifest, read_manifests
from crrg.storage import Storage

NUM_INDEXES = 4
"""Indexes of runs that are kept while studies are asked for; one of a large night takes some megabytes."""


@dataclass(frozen=True)
class StudyDraft:
    """A study draft with what is known of its films' sources.

    Attributes:
        manifest: The commit that it is of.
        document: The study document (``documents.py``).
        rows: Newest row of the ledger that drafted each film, by ``instance_id``, where there is one.
    """

    manifest: Manifest
    document: Mapping[str, Any]
    rows: Mapping[str, LedgerRow]

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
            refuse: Told of a study whose document is not the recorded one, and of the error.
        """
        wanted = set(config.studies)
        for manifest in self._manifests.values():
            if config.date and manifest.date != config.date:
                continue
            for study_id in sorted(self._studies(manifest)):
                if wanted and study_id not in wanted:
                    continue
                try:
                    document = self._document(manifest, study_id)
                except DataError as error:
                    refuse(study_id, error)
                    continue
                names = [film["instance_id"] for film in document["films"]]
                if not any((name, manifest.run_id) in self._replaced for name in names):
                    rows = {name: row for name in names if (row := self._ledger.find_draft(name))}
                    yield StudyDraft(manifest, document, rows)

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
            if draft.study_id in self._studies(manifest):
                try:
                    yield StudyDraft(manifest, self._document(manifest, draft.study_id), {})
                except DataError:
                    continue

    def _studies(self, manifest: Manifest) -> Set[str]:
        return self._index(manifest.date, manifest.run_id).keys()

    def _document(self, manifest: Manifest, study_id: str) -> Mapping[str, Any]:
        """Return a study's document.

        Raises:
            DataError: INTEGRITY.DIGEST where it is not the one that was committed, INTEGRITY.GONE where it is gone.
            StorageError: The root is out of reach.
        """
        key, sha256 = self._index(manifest.date, manifest.run_id)[study_id]
        try:
            data = self._storage.get_verified(key, sha256)
        except DigestMismatch as error:
            raise DataError(error.reason, study_id, code="INTEGRITY.DIGEST") from None
        except StorageError as error:
            if error.retryable or self._storage.exists(key):
                raise
            raise DataError("its document is gone; restore it", study_id, code="INTEGRITY.GONE") from None
        document: Mapping[str, Any] = json.loads(data)
        return document

    def _read_index(self, date: str, run_id: str) -> dict[str, tuple[str, str]]:
        """Return key and digest of each study's document of a run."""
        manifest = self._manifests[date, run_id]
        if not manifest.index_key:
            return {}
        index: dict[str, str] = json.loads(self._storage.get_verified(manifest.index_key, manifest.index_sha256))
        return {study_id: (key, index[key]) for study_id, key in report_keys(index).items()}
