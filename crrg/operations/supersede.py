"""Marks on superseded drafts: their rows say by which run they were replaced (``superseded_by``).

A night names the older drafts that it replaces in its own manifest, which is what counts; here the older runs' report
tables are told, so that a reader of tables alone finds one current draft per film. Nothing is overwritten: a table with
marks is written beside the old one and its run is committed again under a higher number. Documents, pictures and pages
of the older run stay as they are, and so does its digest. Cut off anywhere, it is done after the next night.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pyarrow as pa

from crrg.errors import StorageError
from crrg.exports.parquet import REPORTS_SCHEMA
from crrg.ledger.audit import write_audit
from crrg.ledger.ledger import in_commit_order
from crrg.ledger.manifest import Manifest, commit_manifest, committed_manifests, read_manifests, seal_rewritten
from crrg.ledger.tables import TableFile, read_tables, write_table
from crrg.operations.night_rewrite import no_night
from crrg.storage import Storage, hash_json

logger = logging.getLogger(__name__)

Marks = Mapping[str, str]
"""Image to the run whose draft replaced the one of it."""


def mark_superseded(storage: Storage) -> int:
    """Mark what later runs replaced and no table says yet; return how many runs were committed again.

    That it cannot be done now is no failure: the manifests say the same, and the next night tries again.

    Args:
        storage: The root; this process may hold no night.
    """
    num_done = 0
    try:
        committed = committed_manifests(storage)
        current = {(each.date, each.run_id): each for each in committed}
        for date in sorted({each.date for each in committed if current[each.date, each.run_id] is not each}):
            # cut off between the new commit and the end of the old one
            with no_night(storage, date):
                seal_rewritten(storage, date)
        for manifest, marks in _unmarked(in_commit_order(current.values())):
            _mark(storage, manifest, marks)
            num_done += 1
    except StorageError as error:
        logger.warning("superseded drafts are not all marked, which a later night does: %s", error.reason)
    return num_done


def _unmarked(manifests: Sequence[Manifest]) -> list[tuple[Manifest, Marks]]:
    """Return the runs of which drafts were replaced since their tables were written, with all marks of each.

    Args:
        manifests: What counts of all nights, in the order of commits.
    """
    marks: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for manifest in manifests:
        for each in manifest.superseded:
            marks[each.date, each.run_id].setdefault(each.instance_id, manifest.run_id)
    replaced = [(each, marks[each.date, each.run_id]) for each in manifests if (each.date, each.run_id) in marks]
    return [(manifest, of_run) for manifest, of_run in replaced if manifest.marks != hash_json(of_run)]


def _mark(storage: Storage, manifest: Manifest, marks: Marks) -> None:
    """Commit a run again with the marks in its report tables.

    Raises:
        StorageError: A night is running, or the root is out of reach.
    """
    date, run_id = manifest.date, manifest.run_id
    with no_night(storage, date) as lease:
        # what was read before the night was held may have been written again since
        current = next(each for each in read_manifests(storage, date) if each.run_id == run_id)
        files = tuple(_marked(storage, file, marks, lease.fencing) for file in current.files)
        changed = {
            "fencing": lease.fencing,
            "files": files,
            "marks": hash_json(marks),
            "ledger_fencing": current.ledger_fencing or current.fencing,
        }
        written = {file.key: file.sha256 for file in set(files) - set(current.files)}
        write_audit(storage, "supersede", subject=f"{date}/{run_id}", writes=written, counts={"drafts": len(marks)})
        commit_manifest(storage, current.model_copy(update=changed))
        seal_rewritten(storage, date)
    logger.info("night %s: %d drafts are marked as superseded", date, len(marks))


def _marked(storage: Storage, file: TableFile, marks: Marks, fencing: int) -> TableFile:
    """Return a table that says what replaced its rows: the same one where it says so already."""
    if file.kind != "reports":
        return file
    table = read_tables(storage, [file], file.kind, REPORTS_SCHEMA)
    column = pa.array([marks.get(name) for name in table["instance_id"].to_pylist()], pa.string())
    place = table.schema.get_field_index("superseded_by")
    if column.equals(table["superseded_by"].combine_chunks()):
        return file
    marked = table.set_column(place, table.schema.field(place), column)
    return write_table(storage, f"{file.key.removesuffix('.parquet')}-{fencing}.parquet", marked, file.kind)
