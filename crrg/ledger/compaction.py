"""Small ledger tables of many nights as one, so that a night after years of nights reads few objects.

A compaction is tables under keys of their own and a manifest ``ledger/_manifest-<n>.json``, put-if-absent, that names
them and which runs each repeats; the highest number counts. Nothing is taken away by it: every night's own
table stays what its manifest names, and readers that know no compaction miss nothing. A table is believed only while
all runs in it are committed under the numbers they had: a run that was written again since (``crrg forget``, ``crrg
rekey``) makes it a left-over that ``crrg gc`` removes. Cut off anywhere, it leaves left-overs and is done another time.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from crrg.checked_json import checked_json, parse_checked
from crrg.config.base import FrozenConfig
from crrg.errors import Conflict, StorageError
from crrg.ledger.manifest import Manifest
from crrg.ledger.tables import TableFile, read_table, write_table
from crrg.storage import Storage, hash_json

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MIN_TABLES = 32
"""Fewer tables than this are not worth another one."""
MAX_ROWS = 100_000
"""Rows of a compacted table; a night with half as many keeps its own."""
PREFIX = "ledger"
TABLES, MANIFESTS = "ledger/_compacted-", "ledger/_manifest-"
"""Names that readers of whole folders of tables leave out by custom, or rows would come twice."""
_MANIFEST = re.compile(r"_manifest-(\d+)\.json")


class CompactedRun(FrozenConfig):
    """A run whose ledger rows a table repeats.

    Attributes:
        date: Its night.
        run_id: The run.
        fencing: Number of the commit whose rows these are.
    """

    date: str
    run_id: str
    fencing: int


class CompactedTable(FrozenConfig):
    """The rows of several runs, in the order of the runs.

    Attributes:
        file: The table; its columns are those of a night's own.
        runs: Whose rows.
    """

    file: TableFile
    runs: tuple[CompactedRun, ...]


class Compaction(FrozenConfig):
    """What is compacted.

    Attributes:
        schema_version: Version of this form and of the tables.
        tables: No run is in two of them.
    """

    schema_version: int = SCHEMA_VERSION
    tables: tuple[CompactedTable, ...] = ()


def read_compaction(storage: Storage, manifests: Iterable[Manifest]) -> tuple[CompactedTable, ...]:
    """Return the compacted tables that may be believed.

    Args:
        storage: The root.
        manifests: The committed runs of all nights.
    """
    newest = _read_newest(storage)
    current = {_run_of(manifest) for manifest in manifests}
    return tuple(table for table in newest.tables if current.issuperset(table.runs))


def compact_ledger(storage: Storage, manifests: Sequence[Manifest]) -> int:
    """Put small tables together where there are many; return how many became part of larger ones.

    Args:
        storage: The root; its nights are held by the caller.
        manifests: The committed runs of all nights, in the order of their commits.
    """
    kept = list(read_compaction(storage, manifests))
    compacted = {run for table in kept for run in table.runs}
    small = {
        _run_of(each) for each in manifests if _run_of(each) not in compacted and 0 < _num_rows(each) < MAX_ROWS // 2
    }
    if len(small) < MIN_TABLES:
        return 0
    # the last one may have room: it is written again with what follows, under another key
    unfilled = [table for table in kept if table.file.num_rows < MAX_ROWS // 2]
    again = {run for table in unfilled for run in table.runs}
    wanted = [each for each in manifests if _run_of(each) in again | small]
    tables = [table for table in kept if table not in unfilled]
    tables += [_write(storage, group) for group in _groups(wanted)]
    number = max(_numbers(storage), default=0) + 1
    content = checked_json(Compaction(tables=tuple(tables)).model_dump(mode="json"))
    try:
        storage.put_if_absent(_key(number), content)
    except Conflict:
        logger.info("another process compacted the ledger")
        return 0
    logger.info("ledger: tables of %d nights were merged", len(wanted))
    return len(small)


def compaction_keys(storage: Storage, manifests: Sequence[Manifest]) -> set[str]:
    """Return the keys of the compaction that counts; whatever else lies beside them is a left-over."""
    tables, numbers = read_compaction(storage, manifests), _numbers(storage)
    return {_key(numbers[-1]), *(table.file.key for table in tables)} if tables else set()


def _read_newest(storage: Storage) -> Compaction:
    """Return what the manifest of the highest number says; where it just went, the next.

    Without any, and where it is damaged or a later program's, nothing is: the nights' own tables say the same.
    """
    numbers = _numbers(storage)
    while numbers:
        try:
            return _parsed(_key(numbers[-1]), storage.get(_key(numbers[-1])))
        except StorageError as error:
            before, numbers = numbers, _numbers(storage)
            if error.retryable or numbers == before:
                raise
    return Compaction()


def _parsed(key: str, data: bytes) -> Compaction:
    try:
        return Compaction.model_validate(parse_checked(data, _check_version), extra="ignore")
    except _OfALaterProgram:
        return Compaction()
    except (TypeError, ValueError):
        logger.warning("%s is damaged; the nights' own tables are read", key)
        return Compaction()


class _OfALaterProgram(Exception):
    """A manifest has a schema version that this program does not know."""


def _check_version(value: Mapping[str, Any]) -> None:
    if value.get("schema_version") != SCHEMA_VERSION:
        raise _OfALaterProgram


def _groups(manifests: Iterable[Manifest]) -> list[list[Manifest]]:
    groups: list[list[Manifest]] = []
    num_rows = MAX_ROWS
    for manifest in manifests:
        if num_rows + _num_rows(manifest) > MAX_ROWS:
            groups.append([])
            num_rows = 0
        groups[-1].append(manifest)
        num_rows += _num_rows(manifest)
    return groups


def _write(storage: Storage, manifests: Sequence[Manifest]) -> CompactedTable:
    runs = tuple(_run_of(manifest) for manifest in manifests)
    held = [read_table(storage, file) for manifest in manifests for file in manifest.files if file.kind == "ledger"]
    key = f"{TABLES}{hash_json([run.model_dump(mode='json') for run in runs])}.parquet"
    return CompactedTable(file=write_table(storage, key, pa.concat_tables(held), "ledger"), runs=runs)


def _run_of(manifest: Manifest) -> CompactedRun:
    return CompactedRun(date=manifest.date, run_id=manifest.run_id, fencing=manifest.ledger_fencing or manifest.fencing)


def _num_rows(manifest: Manifest) -> int:
    return sum(file.num_rows for file in manifest.files if file.kind == "ledger")


def _key(number: int) -> str:
    return f"{MANIFESTS}{number}.json"


def _numbers(storage: Storage) -> list[int]:
    found = (_MANIFEST.fullmatch(name) for name in storage.list_folder(PREFIX))
    return sorted(int(match[1]) for match in found if match)
