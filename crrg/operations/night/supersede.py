"""Marks on superseded drafts: rows (``superseded_by``), documents and pages say by which run they were replaced.

A night names the older drafts that it replaces in its own manifest, which is what counts; here the older runs' report
tables are told, so that a reader of tables alone finds one current draft per film, and their documents, work lists
(``study_marks.py``) and pages (``page_marks.py``), so that nobody takes an old draft for the latest. No table and no
list is overwritten: one with marks is written beside the old one and its run is committed again under a higher number.
Documents, pictures and all else of the page stay as they are, and so does the run's digest. Cut off anywhere, it is
done after the next night.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

import pyarrow as pa

from crrg.data.map_ahead import map_ahead
from crrg.errors import StorageError
from crrg.exports.parquet import REPORTS_SCHEMA
from crrg.ledger.audit import SUPERSEDE, write_audit
from crrg.ledger.ledger import in_commit_order
from crrg.ledger.manifest import (
    Manifest,
    audited_writes,
    commit_manifest,
    committed_manifests,
    read_manifests,
    seal_rewritten,
)
from crrg.ledger.tables import TableFile, read_tables, write_table
from crrg.operations.night.page_marks import Marks, find_marks, is_told, marks_digest, marks_scripts, put_marks
from crrg.operations.night.rewrite import no_night
from crrg.operations.night.study_marks import HeldFilm, put_study_marks, replaced_studies
from crrg.storage import Storage

logger = logging.getLogger(__name__)


def mark_superseded(storage: Storage, known: Sequence[Manifest] | None = None) -> int:
    """Mark what later runs replaced and no table says yet; return how many runs were committed again.

    That it cannot be done now is no failure: the manifests say the same, and the next night tries again.

    Args:
        storage: The root; this process may hold no night.
        known: All committed manifests of all nights right after the caller's own commit: where they show nothing to
            do, nothing else is read.
    """
    num_done = 0
    try:
        unmarked, rewritten = _left_to_do(storage, committed_manifests(storage) if known is None else known)
        if known is not None and (unmarked or rewritten):
            # a commit ends its lease, so others may have committed, marked and forgotten since
            unmarked, rewritten = _left_to_do(storage, committed_manifests(storage))
        for manifest, marks in unmarked:
            try:
                _mark(storage, manifest, marks)
                num_done += 1
            except StorageError as error:
                if error.retryable:
                    raise
                # damage to it keeps no other night from being marked
                logger.warning("night %s: superseded drafts are not marked: %s", manifest.date, error)
        # last, since until then pages may be behind
        for date in rewritten:
            with no_night(storage, date):
                seal_rewritten(storage, date)
    except StorageError as error:
        logger.warning("not all superseded drafts are marked; a later night does it: %s", error)
    return num_done


def _left_to_do(storage: Storage, committed: Sequence[Manifest]) -> tuple[list[tuple[Manifest, Marks]], list[str]]:
    """Return the runs to mark (``_unmarked``), and the dates of runs cut off before the end of their old commit."""
    current = {(each.date, each.run_id): each for each in committed}
    rewritten = sorted({each.date for each in committed if current[each.date, each.run_id] is not each})
    return _unmarked(storage, in_commit_order(current.values())), rewritten


def _unmarked(storage: Storage, manifests: Sequence[Manifest]) -> list[tuple[Manifest, Marks]]:
    """Return the runs of which drafts were replaced, or marked pages moved, since they were marked, with all marks.

    So are those whose page does not say what was committed, be it that a holder woke up over it.

    Args:
        storage: The root.
        manifests: What counts of all nights, in the order of commits.

    Raises:
        StorageError: The root is out of reach.
    """
    marks = find_marks(manifests)
    replaced = [(each, marks[each.date, each.run_id]) for each in manifests if (each.date, each.run_id) in marks]

    def is_marked(run: tuple[Manifest, Marks]) -> bool:
        manifest, of_run = run
        return manifest.marks == marks_digest(of_run) and is_told(storage, manifest, of_run)

    return [run for run, is_done in zip(replaced, map_ahead(is_marked, replaced), strict=True) if not is_done]


def _mark(storage: Storage, manifest: Manifest, marks: Marks) -> None:
    """Commit a run again with the marks in its report tables and on its page.

    Raises:
        StorageError: A night is running, or the root is out of reach.
    """
    date, run_id = manifest.date, manifest.run_id
    with no_night(storage, date) as lease:
        # what was read before the night was held may have been written again since
        current = next(each for each in read_manifests(storage, date) if each.run_id == run_id)
        marked = [_marked(storage, file, marks, lease.fencing) for file in current.files]
        files, films = [file for file, _ in marked], [film for _, held in marked for film in held]
        # of a patient who was forgotten meanwhile nothing must speak again
        told = {film.instance_id: marks[film.instance_id] for film in films if film.instance_id in marks}
        index, list_name = put_study_marks(storage, current, replaced_studies(films, told), lease.fencing)
        changes = {
            **index,
            "fencing": lease.fencing,
            "files": tuple(files),
            "marks": marks_digest(marks),
            "ledger_fencing": current.ledger_fencing or current.fencing,
        }
        changed = current.model_copy(update=changes)
        written = {file.key: file.sha256 for file in set(files) - set(current.files)}
        written |= {index["index_key"]: index["index_sha256"]} if index else {}
        scripts = marks_scripts(current, told, list_name)
        written |= {key: hashlib.sha256(data).hexdigest() for key, data in scripts.items()} | audited_writes(changed)
        write_audit(storage, SUPERSEDE, subject=f"{date}/{run_id}", writes=written, counts={"drafts": len(marks)})
        commit_manifest(storage, changed)
        put_marks(storage, scripts)
        seal_rewritten(storage, date)
    logger.info("night %s: %d drafts are marked as superseded", date, len(marks))


def _marked(storage: Storage, file: TableFile, marks: Marks, fencing: int) -> tuple[TableFile, list[HeldFilm]]:
    """Return a table that says what replaced its rows (the same one where it says so already), and their films."""
    if file.kind != "reports":
        return file, []
    table = read_tables(storage, [file], file.kind, REPORTS_SCHEMA)
    films = [HeldFilm(**row) for row in table.select(HeldFilm._fields).to_pylist()]
    newer = (marks.get(film.instance_id) for film in films)
    column = pa.array([each.run_id if each else None for each in newer], pa.string())
    place = table.schema.get_field_index("superseded_by")
    if column.equals(table["superseded_by"].combine_chunks()):
        return file, films
    marked = table.set_column(place, table.schema.field(place), column)
    return write_table(storage, f"{file.key.removesuffix('.parquet')}-{fencing}.parquet", marked, file.kind), films
