"""A folder of DICOM, PNG and JPEG files, with or without a table of reports, as an archive.

The table is the CSV or Parquet file at the top of the folder that has a column naming files. Columns: ``file`` (or
``image``, ``path``, ``filename``), ``patient_id``, ``study_id``, ``findings``, ``impression``, ``indication``,
``view_position``, ``case_group``, any of the 14 labels, and ``clinical_notes`` for case histories that are no reports
(the table of the COVID-19 image data collection has this shape). A film without a row and a row without a film are
inputs of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

from crrg.data.film import may_be_film
from crrg.data.sources import SourceItem
from crrg.data.tables import TABLE_SUFFIXES, Row, labels_of, read_rows, text_of, view_of
from crrg.domain.report import Report
from crrg.domain.source_kind import SourceKind
from crrg.errors import DataError, ReportError
from crrg.storage import Storage, StoredObject

FILE_COLUMNS = ("file", "image", "path", "filename", "dicom_id")
_PATIENT = ("patient_id", "patientid", "subject_id")


class FolderSource:
    """Films as they lie in a tree of folders."""

    kind = SourceKind.FOLDER

    def __init__(self, storage: Storage) -> None:
        """Open the folder; identifiers of its table are valid under the folder's own name."""
        self.storage = storage
        self.site = f"folder/{storage.root.rstrip('/').rsplit('/', 1)[-1]}"

    @staticmethod
    def recognises(_storage: Storage, _names: list[str]) -> bool:
        """Return True: whatever no other kind knows is a folder of films."""
        return True

    def inventory(self) -> list[StoredObject]:
        """Return films and tables; hidden objects and other files are nobody's input."""
        return [
            stored
            for stored in self.storage.list_objects()
            if not any(part.startswith(".") for part in stored.key.split("/"))
            and (_is_table(stored.key) or may_be_film(stored.key))
        ]

    def items(self) -> Iterator[SourceItem]:
        """Yield every film in key order, then rows whose film is not there."""
        objects = self.inventory()
        films = [stored for stored in objects if not _is_table(stored.key)]
        rows = _RowsByFile(self._table(objects))
        for film in films:
            yield _item(film.key, film, rows.take(film.key))
        for name, row in rows.left():
            yield _item(name, None, row)

    def _table(self, objects: list[StoredObject]) -> list[Row]:
        for stored in objects:
            if _is_table(stored.key):
                rows = read_rows(self.storage, stored.key)
                if rows and any(column in rows[0] for column in FILE_COLUMNS):
                    return rows
        return []


class _RowsByFile:
    """Rows of a table, found by the path or the bare name of a file."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = {text_of(row, *FILE_COLUMNS) or f"row {index}": row for index, row in enumerate(rows)}

    def take(self, key: str) -> Row:
        """Return and remove the row of a file; an empty row where there is none."""
        base = key.rsplit("/", 1)[-1]
        for name in (key, base, base.rsplit(".", 1)[0]):
            if name in self._rows:
                return self._rows.pop(name)
        return {}

    def left(self) -> list[tuple[str, Row]]:
        """Return the rows whose file did not come."""
        return list(self._rows.items())


def _item(name: str, film: StoredObject | None, row: Row) -> SourceItem:
    report = Report(
        findings=text_of(row, "findings") or None,
        impression=text_of(row, "impression") or None,
        indication=text_of(row, "indication") or None,
    )
    labels = labels_of(row)
    problem: DataError | None = None
    if film is None and not report.text:
        problem = ReportError("a table row with neither film nor report", code="REPORT.NO_FILM")
    return SourceItem(
        name=name,
        film=film,
        patient_id=text_of(row, *_PATIENT),
        study_id=text_of(row, "study_id"),
        group=text_of(row, "case_group"),
        report=report,
        notes=text_of(row, "clinical_notes"),
        labels=labels,
        label_source="table" if labels else "",
        view_position=view_of(text_of(row, "view_position", "view")),
        problem=problem,
    )


def _is_table(key: str) -> bool:
    return "/" not in key and key.lower().endswith(TABLE_SUFFIXES)
