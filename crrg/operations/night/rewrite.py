"""A committed run written again, without some of its drafts or under other ids: one new manifest.

Nothing is changed in place. What stays keeps its key and its bytes; tables that change are written beside the old ones,
and the page anew. The new manifest carries the same run id under a higher number, so that from its commit on readers
see the new state and before it the old one; then the old manifest is sealed, and its objects are what nothing names.
Which rows go is decided by the caller, who holds the night.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

import crrg
from crrg.data.dataset.quarantine import INBOX, QUARANTINE_SCHEMA, as_quarantine
from crrg.errors import StorageError
from crrg.exports.documents import attention_flags, report_keys, study_of
from crrg.exports.page_pictures import film_of, find_pictures
from crrg.exports.parquet import REGIONS_SCHEMA, REPORTS_SCHEMA
from crrg.exports.review import NightFacts, review_files
from crrg.exports.superseded import SUPERSEDED_FILE, Replacement
from crrg.exports.work_list import RefusedObject
from crrg.ledger.audit import REWRITE, write_audit
from crrg.ledger.digest import files_digest
from crrg.ledger.lease import Lease, acquire_lease
from crrg.ledger.ledger import LedgerRow, Outcome, ledger_rows, write_ledger
from crrg.ledger.manifest import (
    Manifest,
    audited_writes,
    commit_manifest,
    night_dates,
    read_manifests,
    run_prefix,
    seal_rewritten,
)
from crrg.ledger.tables import TableFile, read_each, read_tables, write_table
from crrg.operations.night.documents import put_page
from crrg.operations.night.late import is_of_earlier_films
from crrg.operations.night.page_marks import read_marks
from crrg.operations.night.watch import read_watch, remarks
from crrg.operations.upkeep.gc import AT_ONCE, unnamed_of_nights
from crrg.storage import Storage, canonical_json

ASK_AGAIN_S = 1.0
"""How long it is believed that no other holder took a night over; leases live much longer."""
_ID = re.compile(r"(?<![a-z2-7])[a-z2-7]{26}(?![a-z2-7])")


@dataclass(frozen=True)
class RunChange:
    """What becomes of the rows of a run.

    Attributes:
        keeps_draft: Whether a row of the report or region tables stays.
        ledger_row: Row of the ledger to the row that takes its place; an object whose row goes is new again.
        detail: What the quarantine says of objects whose row is refused now.
        keeps_mark: Whether it is still said of an image that its older draft was superseded.
        has_page: Whether the run still has a review page.
        renamed: Other ids for ids; everything that carries one is written again.
        key_id: Which secret made the other ids.
    """

    keeps_draft: Callable[[Mapping[str, Any]], bool]
    ledger_row: Callable[[LedgerRow], LedgerRow | None] = lambda row: row
    detail: str = ""
    keeps_mark: Callable[[str], bool] = lambda _instance_id: True
    has_page: bool = True
    renamed: Mapping[str, str] = field(default_factory=dict)
    key_id: str = ""


def rewrite_night(storage: Storage, date: str, run_id: str, change: RunChange) -> Manifest:
    """Commit a run again as a change says, under a number of its own.

    Args:
        storage: The root.
        date: Its night.
        run_id: The run.
        change: What becomes of its rows.

    Returns:
        The new manifest.

    Raises:
        StorageError: A night is running (run again when it is done), or the root is out of reach.
        DigestMismatch: A table of the run is not what its manifest recorded.
    """
    with no_night(storage, date) as lease:
        manifest = next(each for each in read_manifests(storage, date) if each.run_id == run_id)
        changed = _changed(storage, manifest, lease.fencing, change)
        _audit(storage, manifest, changed)
        commit_manifest(storage, changed)
        seal_rewritten(storage, date)
    return changed


def _audit(storage: Storage, before: Manifest, after: Manifest) -> None:
    """Write the entry of a run that is about to be committed again; neither keys nor counts hold anybody's id."""
    written = {file.key: file.sha256 for file in set(after.files) - set(before.files)}
    written |= {after.index_key: after.index_sha256, **audited_writes(after)}
    num_drafts = sum(file.num_rows for file in after.files if file.kind == "reports")
    subject = f"{after.date}/{after.run_id}"
    write_audit(storage, REWRITE, subject=subject, writes=written, counts={"drafts": num_drafts})


@contextmanager
def no_night(storage: Storage, date: str = "") -> Iterator[Lease]:
    """Hold what a night would hold, so that none is running meanwhile.

    Args:
        storage: The root.
        date: Night to hold; any where it does not matter.

    Raises:
        StorageError: A night is running.
    """
    lease = acquire_lease(storage, date or f"{datetime.now(UTC):%Y-%m-%d}", is_night=False)
    if lease is None:
        raise StorageError("a night is running; run this again when it is done", date, retryable=True)
    try:
        yield lease
    except BaseException:
        lease.is_committing = True
        raise
    finally:
        lease.release()


def remove_unnamed(storage: Storage, lease: Lease, *, must: bool = True) -> None:
    """Seal what was rewritten and remove what no manifest of a night names; no night may be running.

    Args:
        storage: The root.
        lease: From ``no_night``.
        must: Whether it is an error if this process may remove nothing; otherwise that is left to ``crrg gc``.

    Raises:
        StorageError: A night took over meanwhile, or the root is out of reach; run it again.
    """
    for date in night_dates(storage):
        seal_rewritten(storage, date)
    keys = [stored.key for stored in unnamed_of_nights(storage)]
    remove_held(lease, keys, storage.delete if must else storage.discard)


def remove_held(lease: Lease, keys: Sequence[str], remove: Callable[[str], object]) -> None:
    """Remove objects as long as no night is running; of these a night may name some that went on meanwhile.

    Args:
        lease: From ``no_night``.
        keys: What was found while it was held.
        remove: Removes one of them.

    Raises:
        StorageError: A night took over; what it may name stays.
    """
    asked_s = 0.0
    for number, key in enumerate(keys):
        # a process that was frozen wakes up anywhere, also between two of a few that were asked for together
        if number % AT_ONCE == 0 or time.monotonic() - asked_s > ASK_AGAIN_S:
            asked_s = time.monotonic()
            if lease.is_lost():
                raise StorageError(
                    "a night took over while this process did not run, and may need what was to be removed; run this "
                    "again when it is done",
                    lease.date,
                    retryable=True,
                )
        remove(key)


def _changed(storage: Storage, manifest: Manifest, fencing: int, change: RunChange) -> Manifest:
    """Write the new tables, index and page, and return the manifest that names them."""
    reports = read_tables(storage, manifest.files, "reports", REPORTS_SCHEMA).to_pylist()
    kept = [row for row in reports if change.keeps_draft(row)]
    gone = {row["instance_id"] for row in reports} - {row["instance_id"] for row in kept}
    before = ledger_rows(storage, manifest)
    pairs = [(old, change.ledger_row(old)) for old in before]
    rows = sorted((new for _, new in pairs if new is not None), key=lambda row: row.key_hmac)
    refused = _refused(storage, manifest, pairs, change.detail)
    drafted = [file for file in manifest.files if file.kind in ("reports", "regions")]
    files = (
        *(_table(storage, file, gone, change.renamed, fencing) for file in drafted),
        _quarantine(storage, manifest, refused, fencing),
        write_ledger(storage, manifest.date, f"{manifest.run_id}-{fencing}", rows),
    )
    index = _renamed_objects(storage, _kept_objects(storage, manifest, kept), change.renamed)
    told = read_marks(storage, manifest)
    if change.has_page:
        of_kept = {row["instance_id"]: each for row in kept if (each := (told or {}).get(row["instance_id"]))}
        replaced = {change.renamed.get(name, name): each for name, each in of_kept.items()}
        index |= _write_page(storage, manifest, index, refused, replaced, fencing)
    prefix, data = run_prefix(manifest.date, manifest.run_id), canonical_json(index)
    storage.put(f"{prefix}/index-{fencing}.json", data)
    page = f"{prefix}/review-{fencing}/index.html"
    quarantined = Counter(row.reason for row in rows if row.outcome is Outcome.QUARANTINED)
    flagged = sum(1 for row in _own_rows(storage, manifest) if row["instance_id"] in gone and _is_flagged(row))
    return manifest.model_copy(
        update={
            "fencing": fencing,
            "ledger_fencing": 0,
            "key_id": change.key_id or manifest.key_id,
            "inbox_id": change.renamed.get(manifest.inbox_id, "" if change.key_id else manifest.inbox_id),
            "num_inputs": manifest.num_inputs - len(before) + len(rows),
            "files": files,
            "index_key": f"{prefix}/index-{fencing}.json",
            "index_sha256": hashlib.sha256(data).hexdigest(),
            "review_key": page if page in index else "",
            "replaced_key": page.replace("index.html", SUPERSEDED_FILE) if page in index else "",
            # a page of which it cannot be told what it said is told anew after the next night
            "marks": manifest.marks if told is not None else "",
            "num_accepted": len(rows) - quarantined.total(),
            "num_quarantined": quarantined.total(),
            "num_flagged": manifest.num_flagged - flagged,
            "reasons": dict(sorted(quarantined.items())),
            "num_failed_studies": None,
            "superseded": tuple(
                each.model_copy(update={"instance_id": change.renamed.get(each.instance_id, each.instance_id)})
                for each in manifest.superseded
                if change.keeps_mark(each.instance_id)
            ),
            "digest": files_digest(storage, files, rows, REPORTS_SCHEMA, REGIONS_SCHEMA),
        }
    )


def _own_rows(storage: Storage, manifest: Manifest) -> list[dict[str, Any]]:
    """Return the report rows of films that this run drafted, those it took over from earlier nights left out."""
    own = [file for file in manifest.files if file.kind == "reports" and not is_of_earlier_films(file)]
    rows: list[dict[str, Any]] = read_tables(storage, own, "reports", REPORTS_SCHEMA).to_pylist()
    return rows


def _is_flagged(row: Mapping[str, Any]) -> bool:
    return bool(attention_flags(row["flags"]))


def _table(storage: Storage, file: TableFile, gone: set[str], renamed: Mapping[str, str], fencing: int) -> TableFile:
    """Return a table without the rows of some images and under other ids: the same one where nothing changes."""
    schema = REPORTS_SCHEMA if file.kind == "reports" else REGIONS_SCHEMA
    table = read_tables(storage, [file], file.kind, schema)
    keep = pa.array([name not in gone for name in table["instance_id"].to_pylist()], pa.bool_())
    kept = table.filter(keep)
    if kept.num_rows == table.num_rows and not renamed:
        return file
    for name in ("study_id", "instance_id") if renamed else ():
        if (place := schema.get_field_index(name)) >= 0:
            ids = pa.array([renamed.get(each, each) for each in kept[name].to_pylist()], pa.string())
            kept = kept.set_column(place, schema.field(place), ids)
    return write_table(storage, f"{file.key.removesuffix('.parquet')}-{fencing}.parquet", kept, file.kind)


def _refused(
    storage: Storage, manifest: Manifest, pairs: Sequence[tuple[LedgerRow, LedgerRow | None]], detail: str
) -> list[dict[str, Any]]:
    """Return the run's quarantine with what its ledger says now of the objects whose rows changed."""
    tables = read_each(storage, (file for file in manifest.files if file.kind == "quarantine"))
    held: dict[str, dict[str, Any]] = {
        row["key_hmac"]: row for table in tables for row in as_quarantine(table).to_pylist()
    }
    rows = []
    for old, new in pairs:
        row = held.get(old.key_hmac, {"source": INBOX, "detail": "", "version": crrg.__version__})
        if old == new and old.key_hmac in held:
            rows.append(row)
        elif new is not None and new.outcome is Outcome.QUARANTINED:
            known = {name: getattr(new, name) for name in QUARANTINE_SCHEMA.names if hasattr(new, name)}
            rows.append({**row, **known, "detail": detail or row["detail"]})
    return sorted(rows, key=lambda row: row["key_hmac"])


def _quarantine(storage: Storage, manifest: Manifest, rows: Sequence[Mapping[str, Any]], fencing: int) -> TableFile:
    table = pa.Table.from_pylist([dict(row) for row in rows], QUARANTINE_SCHEMA)
    key = f"quarantine/date={manifest.date}/{manifest.run_id}-{fencing}.parquet"
    return write_table(storage, key, table, "quarantine")


def _kept_objects(storage: Storage, manifest: Manifest, kept: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return key and digest of the documents and pictures that stay."""
    index: dict[str, str] = json.loads(storage.get_verified(manifest.index_key, manifest.index_sha256))
    films, studies = {row["instance_id"] for row in kept}, {row["study_id"] for row in kept}
    return {key: sha256 for key, sha256 in index.items() if film_of(key) in films or study_of(key) in studies}


def _renamed_objects(storage: Storage, objects: Mapping[str, str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Write documents and pictures again under other ids, and return key and digest of each."""
    if not renamed:
        return dict(objects)

    def with_new_ids(text: str) -> str:
        return _ID.sub(lambda match: renamed.get(match[0], match[0]), text)

    written: dict[str, str] = {}
    for key, sha256 in objects.items():
        data = storage.get_verified(key, sha256)
        if not key.endswith(".png"):
            data = with_new_ids(data.decode()).encode()
        storage.put(with_new_ids(key), data)
        written[with_new_ids(key)] = hashlib.sha256(data).hexdigest()
    return written


def _write_page(
    storage: Storage,
    manifest: Manifest,
    objects: Mapping[str, str],
    refused: Sequence[Mapping[str, Any]],
    replaced: Mapping[str, Replacement],
    fencing: int,
) -> dict[str, str]:
    """Write the page of what stays, in a folder of its own, and return key and digest of its files."""
    documents = (json.loads(storage.get_verified(key, objects[key])) for key in sorted(report_keys(objects).values()))
    facts = NightFacts(
        date=manifest.date,
        bundle_id=manifest.bundle.bundle_id if manifest.bundle else "",
        model_version=manifest.bundle.model_version if manifest.bundle else "",
        num_pending=manifest.num_pending,
        thresholds=manifest.thresholds,
        remarks=remarks(read_watch(storage, manifest)),
    )
    shown = [RefusedObject(row["key_hmac"], row["reason"], row["detail"], row["instance_id"]) for row in refused]
    folder = f"{run_prefix(manifest.date, manifest.run_id)}/review-{fencing}"
    files = review_files(facts, documents, shown, find_pictures(objects, "../review/"), replaced)
    return put_page(folder, files, storage)
