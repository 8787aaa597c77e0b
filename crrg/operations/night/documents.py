"""Documents and page of a night, made shard by shard from its tables, so that memory does not grow with the night.

Which films a study has is known only when all shards are looked at together, so that its documents are written here,
once, while it becomes a line of the page. Nothing is written over: of two holders of a run each names its own.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from crrg.errors import Conflict
from crrg.exports.documents import DraftingBundle, document_files, group_regions, study_documents
from crrg.exports.parquet import REGIONS_SCHEMA, REPORTS_SCHEMA
from crrg.exports.review import ENTRY_FILE
from crrg.exports.superseded import SUPERSEDED_FILE
from crrg.ledger.beside import put_beside
from crrg.ledger.object_index import ObjectIndex
from crrg.ledger.tables import TableFile, read_each
from crrg.storage import Storage

WRITERS = 24
"""Objects written at a time: a store in another building is mostly waited for."""
STUDIES_AT_ONCE = 64
PAGE_WRITERS = 4


def night_documents(
    tables: Sequence[TableFile],
    across: frozenset[str],
    sizes: Mapping[str, tuple[int, int]],
    bundles: Mapping[str, DraftingBundle],
    storage: Storage,
) -> Iterator[dict[str, Any]]:
    """Yield one document per study.

    Args:
        tables: Report tables, each followed by the region table of the same films.
        across: Studies whose films lie in several of them; their documents come last.
        sizes: Width and height in original pixels per ``instance_id``.
        bundles: Those that drafted the films, by ``bundle_id``.
        storage: The root.
    """
    left_reports, left_regions = [REPORTS_SCHEMA.empty_table()], [REGIONS_SCHEMA.empty_table()]
    spread = pa.array(across, pa.string())
    given = read_each(storage, tables)
    for reports_read, regions_read in zip(given, given, strict=True):
        reports, regions = reports_read.cast(REPORTS_SCHEMA), regions_read.cast(REGIONS_SCHEMA)
        is_left = pc.is_in(reports["study_id"], value_set=spread)
        names = reports.filter(is_left)["instance_id"].combine_chunks()
        is_region_left = pc.is_in(regions["instance_id"], value_set=names)
        left_reports.append(reports.filter(is_left))
        left_regions.append(regions.filter(is_region_left))
        own = reports.filter(pc.invert(is_left)), regions.filter(pc.invert(is_region_left))
        yield from _documents(*own, sizes, bundles)
    yield from _documents(pa.concat_tables(left_reports), pa.concat_tables(left_regions), sizes, bundles)


def writing(
    documents: Iterable[dict[str, Any]], prefix: str, objects: ObjectIndex, storage: Storage
) -> Iterator[dict[str, Any]]:
    """Yield documents as they come, those of some studies at a time written on the way.

    Args:
        documents: One per study.
        prefix: Prefix of the run.
        objects: The run's index; what is written is entered.
        storage: The root.
    """

    def put(key: str, data: bytes) -> tuple[str, str]:
        return put_beside(storage, key, data), hashlib.sha256(data).hexdigest()

    given = iter(documents)
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="write") as pool:
        before: list[Future[tuple[str, str]]] = []
        while some := list(islice(given, STUDIES_AT_ONCE)):
            writes = [pool.submit(put, key, data) for key, data in document_files(prefix, some).items()]
            yield from some
            # the next ones are made while these are written, and no more than two lots are held
            objects.add(dict(write.result() for write in before))
            before = writes
        objects.add(dict(write.result() for write in before))


def put_page(folder: str, files: Iterable[tuple[str, bytes]], storage: Storage) -> dict[str, str]:
    """Write the files of a page as they come, few of them held at a time; return their sha256 per key.

    What is told of a page later changes, and is left out.

    Args:
        folder: Where the page lies.
        files: Name and bytes of each; the entry comes last, and is written when all others lie there.
        storage: The root.

    Raises:
        Conflict: Another page lies there, of this run as another holder saw it.
    """

    def put(name: str, data: bytes) -> dict[str, str]:
        key = f"{folder}/{name}"
        if name == SUPERSEDED_FILE:
            # a holder that wakes up late must not take back what the page was told since
            with suppress(Conflict):
                storage.put_if_absent(key, data)
            return {}
        storage.put_if_absent(key, data)
        return {key: hashlib.sha256(data).hexdigest()}

    written: dict[str, str] = {}
    with ThreadPoolExecutor(PAGE_WRITERS, thread_name_prefix="page") as pool:
        waiting: deque[Future[dict[str, str]]] = deque()
        for name, data in files:
            while waiting and (len(waiting) == PAGE_WRITERS or name == ENTRY_FILE):
                written |= waiting.popleft().result()
            waiting.append(pool.submit(put, name, data))
        for writing_file in waiting:
            written |= writing_file.result()
    return written


def _documents(
    reports: pa.Table,
    regions: pa.Table,
    sizes: Mapping[str, tuple[int, int]],
    bundles: Mapping[str, DraftingBundle],
) -> list[dict[str, Any]]:
    return study_documents(reports.to_pylist(), group_regions(regions.to_pylist()), sizes, bundles)
