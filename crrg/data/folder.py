"""A folder of DICOM, PNG and JPEG files, with or without a table of reports, as an archive.

The table is the CSV or Parquet file at the top of the folder that has a column naming files. Columns: ``file`` (or
``image``, ``path``, ``filename``), ``patient_id``, ``study_id``, ``findings``, ``impression``, ``indication``,
``view_position``, ``case_group``, any of the 14 labels, and ``clinical_notes`` for case histories that are no reports
(the table of the COVID-19 image data collection has this shape). A film without a row and a row without a film are
inputs of their own.

Boxes of regions come from ``masks/<stem of the film>.png`` where there is one, else from a table at the top with
``label``, ``x1``, ``y1``, ``x2``, ``y2`` beside the column naming files; ``region_boxes`` says what both look like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from crrg.data.film import may_be_film
from crrg.data.map_ahead import map_ahead
from crrg.data.region_boxes import boxes_of_mask, boxes_of_rows, is_box_table
from crrg.data.sources import SourceItem
from crrg.data.tables import TABLE_SUFFIXES, Row, labels_of, read_rows, text_of, view_of
from crrg.domain.report import Report
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import RegionAnnotation
from crrg.errors import AnnotationError, DataError, ReportError
from crrg.storage import Storage, StoredObject

T = TypeVar("T")
FILE_COLUMNS = ("file", "image", "path", "filename", "dicom_id")
MASKS_PREFIX = "masks/"
MAX_MASK_BYTES = 16 * 2**20
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
        masks = {_stem(stored.key): stored for stored in objects if stored.key.startswith(MASKS_PREFIX)}
        films = [stored for stored in objects if not _is_table(stored.key) and not stored.key.startswith(MASKS_PREFIX)]
        table, boxes = self._tables(objects)
        rows, boxes_of = _ByFile(table), _ByFile(boxes)
        read = map_ahead(lambda film: self._mask_boxes(masks.get(_stem(film.key))), films)
        for film, drawn in zip(films, read, strict=True):
            item = _item(film.key, film, rows.take(film.key) or {})
            yield _with_boxes(item, drawn, boxes_of.take(film.key) or ())
        for name, row in rows.left():
            yield _item(name, None, row)

    def _tables(self, objects: list[StoredObject]) -> tuple[dict[str, Row], dict[str, tuple[RegionAnnotation, ...]]]:
        """Return the first table that names files, and the boxes of the first table of boxes, both by name of file."""
        table: dict[str, Row] = {}
        boxes: dict[str, tuple[RegionAnnotation, ...]] = {}
        for key in (stored.key for stored in objects if _is_table(stored.key)):
            rows = read_rows(self.storage, key)
            if not rows or not any(column in rows[0] for column in FILE_COLUMNS):
                continue
            if is_box_table(rows[0]):
                boxes = boxes or boxes_of_rows(rows, FILE_COLUMNS)
            else:
                table = table or {text_of(row, *FILE_COLUMNS) or f"row {index}": row for index, row in enumerate(rows)}
        return table, boxes

    def _mask_boxes(self, mask: StoredObject | None) -> _MaskBoxes | None:
        if mask is None:
            return None
        try:
            if mask.size > MAX_MASK_BYTES:
                raise AnnotationError(f"a mask of {mask.size} bytes", code="LIMIT.FILE_SIZE")
            return _MaskBoxes(*boxes_of_mask(self.storage.get(mask.key)))
        except DataError as error:
            return _MaskBoxes(problem=error)


@dataclass(frozen=True)
class _MaskBoxes:
    """What a film's mask says, or why it cannot be used."""

    regions: tuple[RegionAnnotation, ...] = ()
    size: tuple[int, int] | None = None
    problem: DataError | None = None


class _ByFile(Generic[T]):
    """Rows of a table, or boxes, found by the path or the bare name of a file."""

    def __init__(self, values: dict[str, T]) -> None:
        self._values = dict(values)

    def take(self, key: str) -> T | None:
        """Return and remove what belongs to a file; ``None`` where there is nothing."""
        base = key.rsplit("/", 1)[-1]
        for name in (key, base, base.rsplit(".", 1)[0]):
            if name in self._values:
                return self._values.pop(name)
        return None

    def left(self) -> list[tuple[str, T]]:
        """Return what belongs to files that did not come."""
        return list(self._values.items())


def _with_boxes(item: SourceItem, drawn: _MaskBoxes | None, boxes: tuple[RegionAnnotation, ...]) -> SourceItem:
    if drawn is None:
        return replace(item, regions=boxes)
    return replace(item, regions=drawn.regions, boxes_size=drawn.size, problem=item.problem or drawn.problem)


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


def _stem(key: str) -> str:
    return key.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _is_table(key: str) -> bool:
    return "/" not in key and key.lower().endswith(TABLE_SUFFIXES)
