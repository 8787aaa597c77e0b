"""Some patients taken out of all datasets and of what is kept beside them: records of inputs, shards, drafts.

Versions are rewritten (``crrg.data.dataset.rewrite``); records of inputs keep what makes the next ingest quick and say
of a forgotten film only that it is refused; staged shards that hold a patient are made again when they are needed.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from crrg.data.dataset.pairs import list_versions, resolve_dataset
from crrg.data.dataset.rewrite import (
    RewrittenVersion,
    remove_retired,
    replaced_versions,
    retire_version,
    rewrite_version,
)
from crrg.data.parquet import read_parquet
from crrg.data.privacy.forgotten import REASON, SENTENCE
from crrg.ledger.tables import table_bytes
from crrg.operations.ingest.inputs import InputRecord, put_inputs, read_inputs
from crrg.operations.privacy.retire_secret import clear_retired
from crrg.operations.privacy.traces import Traces, dataset_triples, mentions
from crrg.operations.training.draft_store import DRAFTS, FILMS_PER_PART, NBEST
from crrg.storage import Storage


def versions_holding(storage: Storage, traces: Traces) -> list[tuple[str, str, int]]:
    """Return name, version and number of rows of patients, of every dataset version that has any; oldest first."""
    found = []
    for name in storage.list_folder("datasets"):
        for version in list_versions(storage, name):
            rows = (dict(zip(("patient_id", "study_id", "instance_id"), triple[:3], strict=True))
                    for triple in dataset_triples(storage, name, version))  # fmt: skip
            if num_rows := sum(traces.has(row) for row in rows):
                found.append((name, version, num_rows))
    return found


def forget_in_datasets(storage: Storage, traces: Traces) -> dict[tuple[str, str], int]:
    """Remove patients from every dataset; return how many rows went, by name and version that is no more.

    Args:
        storage: The root.
        traces: What belongs to the patients.

    Raises:
        DigestMismatch: A part of a version is not what its manifest recorded.
        StorageError: The root is out of reach.
    """
    removed: dict[tuple[str, str], int] = {}
    for name, version, _ in versions_holding(storage, traces):
        dataset = resolve_dataset(storage, name, version)
        rewritten = rewrite_version(storage, dataset, lambda row: not traces.has(row))
        _rewrite_inputs(storage, rewritten, traces)
        _rewrite_drafts(storage, rewritten, traces)
        retire_version(storage, rewritten)
        removed[name, version] = rewritten.num_removed
    for name in storage.list_folder("datasets"):
        remove_retired(storage, name)
        clear_retired(storage, name)
        for stored in storage.list_objects(f"datasets/{name}/_inputs"):
            _clean_inputs(storage, stored.key, traces)
    for stored in [*storage.list_objects("staging"), *storage.list_objects("spool"), *storage.list_objects(DRAFTS)]:
        if mentions(storage, stored.key, traces.ids):
            storage.delete(stored.key)
    return removed


def ancestors(storage: Storage, name: str, version: str) -> set[str]:
    """Return the versions that a version was rewritten from, itself among them; they held all that it holds."""
    successors = replaced_versions(storage, name)
    family = {version}
    while more := {old for old, new in successors.items() if new in family} - family:
        family |= more
    return family


def _rewrite_inputs(storage: Storage, rewritten: RewrittenVersion, traces: Traces) -> None:
    """Let the records of ingests that made the old version speak of the new one."""
    name, old = rewritten.old.name, rewritten.old.version
    for stored in storage.list_objects(f"datasets/{name}/_inputs"):
        records, summary = read_inputs(storage, stored.key)
        if summary.get("version") != old:
            continue
        if not rewritten.new_version:
            storage.delete(stored.key)
            continue
        gone = rewritten.removed
        moved = [_renumbered(record, gone) for record in records]
        counts = {each: summary[each] - rewritten.num_removed for each in ("num_inputs", "num_accepted")}
        put_inputs(
            storage, stored.key, _cleaned(moved, traces), {**summary, **counts, "version": rewritten.new_version}
        )


def _renumbered(record: InputRecord, gone: Mapping[str, Sequence[int]]) -> InputRecord:
    """Return a record with the place of its row in the new version; a row that went is refused now."""
    numbers = gone.get(record.split, ())
    place = bisect.bisect_left(numbers, record.row)
    if record.split and place < len(numbers) and numbers[place] == record.row:
        return _forgotten(record)
    return replace(record, row=record.row - place) if record.split else record


def _forgotten(record: InputRecord) -> InputRecord:
    kept = {"object_id": record.object_id, "etag": record.etag, "num_bytes": record.num_bytes, "said": record.said}
    return InputRecord(**kept, reason=REASON, sentence=SENTENCE, stage="identity")  # type: ignore[arg-type]


def _cleaned(records: Sequence[InputRecord], traces: Traces) -> list[InputRecord]:
    """Return records without images of patients; films that were refused for the sake of one are read again."""
    clean = [_forgotten(record) if record.instance_id in traces.instances else record for record in records]
    lost = {record.object_id for record in clean if record.reason == REASON}
    return [record for record in clean if record.winner not in lost]


def _clean_inputs(storage: Storage, key: str, traces: Traces) -> None:
    """Take patients out of a record that belongs to no version any more, or names them as refused."""
    records, summary = read_inputs(storage, key)
    if any(record.instance_id in traces.instances for record in records):
        put_inputs(storage, key, _cleaned(records, traces), summary)


def _rewrite_drafts(storage: Storage, rewritten: RewrittenVersion, traces: Traces) -> None:
    """Move the drafts of a version's training films to the new version, in parts that fit its films again.

    Those with all wordings go: they may be of a sample of films, and of what stays another sample is drawn.
    """
    old, name = rewritten.old, rewritten.old.name
    folders = [
        (f"{DRAFTS}/{bundle}", folder.removeprefix(f"{name}-{old.version}-"))
        for bundle in storage.list_folder(DRAFTS)
        for folder in storage.list_folder(f"{DRAFTS}/{bundle}")
        if folder.startswith(f"{name}-{old.version}-")
    ]
    for parent, kind in folders:
        prefix = f"{parent}/{name}-{old.version}-{kind}"
        keys = [stored.key for stored in storage.list_objects(prefix)]
        # the manifest speaks of the old parts; the next drafting writes that of the new version
        tables = [read_parquet(storage.get(key)) for key in keys if key.endswith(".parquet")]
        if tables and rewritten.new_version and NBEST not in kind:
            new_prefix = f"{parent}/{name}-{rewritten.new_version}-{kind}"
            for index, part in enumerate(_whole_parts(pa.concat_tables(tables), traces)):
                # what an earlier run wrote was made of all old parts, which may be gone by now
                if not storage.exists(key := f"{new_prefix}/part-{index:05d}.parquet"):
                    storage.put(key, table_bytes(part))
        for key in keys:
            storage.delete(key)


def _whole_parts(table: pa.Table, traces: Traces) -> list[pa.Table]:
    """Return what stays in parts of full length; the rest is drafted again, since more films may follow it."""
    keep = [not traces.has(row) for row in table.select(["patient_id", "study_id", "instance_id"]).to_pylist()]
    kept = table.filter(pa.array(keep, pa.bool_()))
    whole = kept.num_rows // FILMS_PER_PART
    return [kept.slice(index * FILMS_PER_PART, FILMS_PER_PART) for index in range(whole)]
