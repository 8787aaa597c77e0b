"""What became of every inbox object so far: one row per input, written with the night that read it.

The ledger decides what is new. It is the union of the ledger tables that committed manifests name, so a night that did
not commit left no trace here; many small ones are read from one that repeats them (``compaction.py``). Objects appear
as HMACs of their keys, never by name.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from crrg.data.refusals import may_pass
from crrg.errors import StorageError
from crrg.ledger.compaction import CompactedTable, compact_ledger, read_compaction
from crrg.ledger.manifest import Manifest, read_named
from crrg.ledger.tables import ROW_GROUP_SIZE, TableFile, read_table, write_table
from crrg.storage import Storage

logger = logging.getLogger(__name__)

DUPLICATE = "DUPLICATE.PIXELS"
DUPLICATE_RESENT = "DUPLICATE.RESENT"
READERS = 8
"""Tables read at a time: those of a store in another building are mostly waited for."""


class Outcome(StrEnum):
    """How an input ended."""

    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One input of one night.

    Attributes:
        key_hmac: HMAC of the object's key in the inbox.
        etag: The store's version mark of the object that was read.
        source_digest: sha256 of its bytes; empty where it could not be read.
        pixel_digest: sha256 of the decoded pixels; empty where it was not decoded.
        patient_id: Pseudonym, empty where unknown.
        study_id: Pseudonym, empty where unknown.
        instance_id: Pseudonym, empty where unknown.
        outcome: Accepted or quarantined.
        reason: Reason code, empty where accepted.
        is_carried: Whether the content was known from this same object before and its outcome was only repeated.
        bundle_id: Bundle of the night.
        run_id: Run that wrote the row.
        date: Night of the row; stands in the table's key, not in the table.
        inbox_id: Which inbox the night read; stands in its manifest, not in the table. Empty where that does not say.
    """

    key_hmac: str
    etag: str
    source_digest: bytes
    pixel_digest: bytes
    patient_id: str
    study_id: str
    instance_id: str
    outcome: Outcome
    reason: str
    is_carried: bool
    bundle_id: str
    run_id: str
    date: str
    inbox_id: str = ""

    @property
    def is_of_a_draft(self) -> bool:
        """Whether the object was drafted, or taken for the same as what was drafted."""
        return self.outcome is Outcome.ACCEPTED or self.reason == DUPLICATE_RESENT

    def shows_as(self, other: LedgerRow) -> bool:
        """Return whether two readings have the same pixels and patient."""
        return (self.pixel_digest, self.patient_id) == (other.pixel_digest, other.patient_id)


LEDGER_SCHEMA = pa.schema(
    [
        pa.field("key_hmac", pa.string(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("source_digest", pa.binary(), nullable=False),
        pa.field("pixel_digest", pa.binary(), nullable=False),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("study_id", pa.string(), nullable=False),
        pa.field("instance_id", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("is_carried", pa.bool_(), nullable=False),
        pa.field("bundle_id", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
    ],
    metadata={"schema": "crrg.ledger", "schema_version": "1"},
)


class Ledger:
    """All rows so far, with the questions a night asks of them."""

    def __init__(self, rows: Iterable[LedgerRow]) -> None:
        """Index rows in the order in which they were committed."""
        self._by_version: dict[tuple[str, str], LedgerRow] = {}
        self._by_key: dict[str, LedgerRow] = {}
        self._by_instance: dict[str, LedgerRow] = {}
        self._of_later_versions: dict[tuple[str, str, str], LedgerRow] = {}
        self._by_study: dict[str, list[LedgerRow]] = {}
        self._duplicates: dict[str, LedgerRow] = {}
        self._tries = Counter[tuple[str, str]]()
        for row in rows:
            if may_pass(row.reason):
                self._tries[row.key_hmac, row.etag] += 1
            self._by_version[row.key_hmac, row.etag] = row
            before = self._by_key.get(row.key_hmac)
            if before is not None and before.etag != row.etag and row.is_of_a_draft:
                self._of_later_versions[row.key_hmac, row.instance_id, row.inbox_id] = row
            self._by_key[row.key_hmac] = row
            if row.instance_id and row.outcome is Outcome.ACCEPTED and not row.is_carried:
                self._by_instance[row.instance_id] = row
                self._by_study.setdefault(row.study_id, []).append(row)
            elif row.instance_id and row.reason == DUPLICATE:
                self._duplicates.setdefault(row.instance_id, row)

    def __len__(self) -> int:
        """Return the number of different objects and versions."""
        return len(self._by_version)

    def find(self, key_hmac: str, etag: str) -> LedgerRow | None:
        """Return the row of an object in exactly this version, or ``None`` if it is new or was replaced.

        Two inboxes may use one key for two objects: their versions tell them apart.
        """
        return self._by_version.get((key_hmac, etag))

    def find_key(self, key_hmac: str) -> LedgerRow | None:
        """Return the last row of an object in whatever version, or ``None``."""
        return self._by_key.get(key_hmac)

    def num_tries(self, key_hmac: str, etag: str) -> int:
        """Return how many nights refused an object in this version for a cause outside its bytes."""
        return self._tries[key_hmac, etag]

    def find_draft(self, instance_id: str) -> LedgerRow | None:
        """Return the last row that drafted this image, or ``None``."""
        return self._by_instance.get(instance_id)

    def is_replaced(self, row: LedgerRow, inbox_id: str) -> bool:
        """Return whether the draft that a row speaks of was replaced by another version of its object.

        Args:
            row: The last reading of a version.
            inbox_id: The inbox whose object is meant: what lies in another one under the same key is another object.
        """
        newer = self._of_later_versions.get((row.key_hmac, row.instance_id, inbox_id))
        return row.is_of_a_draft and newer is not None and not newer.shows_as(row)

    def find_duplicate(self, instance_id: str) -> LedgerRow | None:
        """Return the first row of this image that was refused for the sake of one with equal pixels, or ``None``."""
        return self._duplicates.get(instance_id)

    def studies(self) -> Set[str]:
        """Return the studies of all rows, refused ones too."""
        return {row.study_id for row in self._by_version.values() if row.study_id}

    def find_drafts_of(self, study_id: str) -> list[LedgerRow]:
        """Return the rows that drafted images of a study, in the order in which they were committed."""
        return self._by_study.get(study_id, [])


@dataclass(frozen=True)
class Wanted:
    """Which rows somebody asks for: those that match any of these.

    Attributes:
        keys: HMACs of object keys.
        instances: Pseudonyms of images.
        studies: Pseudonyms of studies.
    """

    keys: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()
    studies: frozenset[str] = frozenset()

    def of(self, table: pa.Table) -> pa.Table:
        """Return the rows of a table that are asked for."""
        columns = {"key_hmac": self.keys, "instance_id": self.instances, "study_id": self.studies}
        masks = [pc.is_in(table[name], value_set=pa.array(asked, pa.string())) for name, asked in columns.items()]
        return table.filter(functools.reduce(pc.or_, masks))


def read_ledger(storage: Storage, wanted: Wanted | None = None, manifests: Sequence[Manifest] | None = None) -> Ledger:
    """Read the ledger as of now; without any night it is empty.

    Every night so far is looked through, several at a time; only rows that are asked for stay in memory.

    Args:
        storage: The root.
        wanted: Rows to keep; all where not given.
        manifests: The committed runs of all nights, where the caller holds these and knows them; read otherwise.
    """
    return read_named(storage, lambda named: _read_ledger(storage, in_commit_order(named), wanted), manifests)


def _read_ledger(storage: Storage, manifests: Sequence[Manifest], wanted: Wanted | None) -> Ledger:
    by_run: dict[str, list[LedgerRow]] = {}
    runs = {each.run_id: (each.date, each.inbox_id) for each in manifests}
    with ThreadPoolExecutor(READERS, thread_name_prefix="ledger") as pool:
        read_compacted = functools.partial(_compacted_rows, storage, wanted, runs)
        for rows in pool.map(read_compacted, read_compaction(storage, manifests)):
            by_run |= rows
        own = [manifest for manifest in manifests if manifest.run_id not in by_run]
        found = zip(own, pool.map(lambda manifest: ledger_rows(storage, manifest, wanted), own), strict=True)
        by_run |= {manifest.run_id: rows for manifest, rows in found}
    return Ledger(row for manifest in manifests for row in by_run[manifest.run_id])


def in_commit_order(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Return committed runs in the order of their commits.

    A night of an earlier date may have been committed later, and clocks of two machines need not agree.
    """
    return sorted(manifests, key=lambda manifest: (manifest.sequence, manifest.committed_utc))


def compact_if_many(storage: Storage, manifests: Iterable[Manifest]) -> None:
    """Put small tables together where there are many; only who holds the nights may, and a failure is no failure.

    Args:
        storage: The root.
        manifests: The committed runs of all nights.
    """
    try:
        compact_ledger(storage, in_commit_order(manifests))
    except StorageError as error:
        logger.warning("the ledger was not compacted; a later night does it: %s", error.reason)


def ledger_rows(storage: Storage, manifest: Manifest, wanted: Wanted | None = None) -> list[LedgerRow]:
    """Return the rows of one committed run, or those of them that are asked for."""
    files = [file for file in manifest.files if file.kind == "ledger"]
    return _rows(storage, files, {manifest.run_id: (manifest.date, manifest.inbox_id)}, wanted)


def _compacted_rows(
    storage: Storage, wanted: Wanted | None, runs: Mapping[str, tuple[str, str]], table: CompactedTable
) -> dict[str, list[LedgerRow]]:
    """Return the rows of a compacted table by run; of one that is gone nothing, since the nights' own say the same."""
    by_run: dict[str, list[LedgerRow]] = {run.run_id: [] for run in table.runs}
    try:
        for row in _rows(storage, [table.file], runs, wanted):
            by_run[row.run_id].append(row)
    except StorageError as error:
        if error.retryable:
            raise
        logger.warning(
            "a compacted table of the ledger cannot be read, so the tables of its nights are: %s", error.reason
        )
        return {}
    return by_run


def _rows(
    storage: Storage, files: Iterable[TableFile], runs: Mapping[str, tuple[str, str]], wanted: Wanted | None
) -> list[LedgerRow]:
    """Return rows of tables, or those that are asked for.

    Args:
        storage: The root.
        files: The tables.
        runs: Night and inbox of each run in them.
        wanted: Rows to keep; all where not given.
    """
    tables = (read_table(storage, file) for file in files)
    return [
        LedgerRow(
            **{
                **row,
                "outcome": Outcome(row["outcome"]),
                # the same few values in all rows
                "reason": sys.intern(row["reason"]),
                "bundle_id": sys.intern(row["bundle_id"]),
                "run_id": sys.intern(row["run_id"]),
            },
            date=runs[row["run_id"]][0],
            inbox_id=runs[row["run_id"]][1],
        )
        for table in tables
        for row in (wanted.of(table) if wanted else table).to_pylist()
    ]


def write_ledger(storage: Storage, date: str, run_id: str, rows: Iterable[LedgerRow]) -> TableFile:
    """Write a run's rows; they count once a manifest names the file.

    Args:
        storage: The root.
        date: The night.
        run_id: The run.
        rows: Sorted by ``key_hmac``; only some of them are held at a time.
    """
    given = iter(rows)
    pieces = [LEDGER_SCHEMA.empty_table()]
    while some := list(islice(given, ROW_GROUP_SIZE)):
        columns = {name: [getattr(row, name) for row in some] for name in LEDGER_SCHEMA.names}
        pieces.append(pa.table(columns, schema=LEDGER_SCHEMA))
    return write_table(storage, f"ledger/date={date}/{run_id}.parquet", pa.concat_tables(pieces), "ledger")
