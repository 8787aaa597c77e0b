"""A folder of DICOM, PNG and JPEG files, with or without tables of reports, as an archive.

Tables are the CSV and Parquet files at the top of the folder. One with a column ``file`` (or ``image``, ``path``,
``filename``) says of films: ``patient_id``, ``study_id``, ``findings``, ``impression``, ``indication``, or a whole
``report``, ``view_position``, ``sex``, ``age`` (years), ``case_group``, any of the 14 labels, and ``clinical_notes``
for case histories that are no reports (the table of the COVID-19 image data collection has this shape). One without it,
but with ``study_id``, ``study_instance_uid`` or ``accession_number``, holds the reports of studies. Several rows about
the same are versions of a report (``report_versions``). A film without a row and a row without a film are inputs of
their own.

Boxes of regions come from ``masks/<stem of the film>.png`` where there is one, else from a table at the top with
``label``, ``x1``, ``y1``, ``x2``, ``y2`` beside the column naming files; ``region_boxes`` says what both look like.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from crrg.data.acquisition_words import acquisition_of_words
from crrg.data.archives.folder_columns import (
    AGE_COLUMNS,
    PATIENT_COLUMNS,
    SEX_COLUMNS,
    VIEW_COLUMNS,
    unread_columns,
)
from crrg.data.archives.folder_tables import FolderTables, Said
from crrg.data.archives.givers import Givers, read_beside
from crrg.data.archives.region_boxes import boxes_of_mask
from crrg.data.archives.sources import SourceItem
from crrg.data.archives.tables import TABLE_SUFFIXES, Row, labels_of, read_rows, text_of
from crrg.data.dicom.study_words import StudyWords, find_study_words, read_head
from crrg.data.film import may_be_film
from crrg.data.map_ahead import map_ahead
from crrg.data.reports.sections import Mode
from crrg.data.view_words import view_of_words
from crrg.domain.labels import LabelValues
from crrg.domain.report import Report
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import RegionAnnotation
from crrg.errors import AnnotationError, DataError, ReportError
from crrg.storage import Storage, StoredObject

logger = logging.getLogger(__name__)

MASKS_PREFIX = "masks/"
MAX_MASK_BYTES = 16 * 2**20
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


class FolderSource:
    """Films as they lie in a tree of folders."""

    kind = SourceKind.FOLDER
    looked_for = (
        "films (.dcm, .dicom, .png, .jpg, .jpeg, or names without suffix) and tables at the top (.csv, .parquet)"
    )

    def __init__(self, storage: Storage) -> None:
        """Open the folder; identifiers of its table are valid under the folder's own name."""
        self.storage = storage
        self.site = f"folder/{storage.root.rstrip('/').rsplit('/', 1)[-1]}"
        self.section_mode: Mode = "general"

    @staticmethod
    def recognises(_storage: Storage, _names: list[str]) -> bool:
        """Return True: whatever no other kind knows is a folder of films."""
        return True

    def inventory(self) -> list[StoredObject]:
        """Return films and tables; hidden objects and other files are nobody's input."""
        return self._sorted_out()[0]

    def items(self) -> Iterator[SourceItem]:
        """Yield every film in key order, then what tables say of no film and what of them does not count."""
        objects, num_others = self._sorted_out()
        if num_others:
            logger.info("files ignored, since their names are neither those of films nor of tables: %d", num_others)
        masks = {_stem(stored.key): stored for stored in objects if stored.key.startswith(MASKS_PREFIX)}
        films = [stored for stored in objects if not _is_table(stored.key) and not stored.key.startswith(MASKS_PREFIX)]
        keys = [stored.key for stored in objects if _is_table(stored.key)]
        tables = FolderTables(self._read_tables(keys), (film.key for film in films), self.section_mode)
        has_heads, givers = tables.names_studies, Givers(self.storage, (*films, *masks.values()))
        beside = map_ahead(
            lambda film: self._beside(film, masks.get(_stem(film.key)), givers, has_head=has_heads), films
        )
        for film, (drawn, head) in zip(films, beside, strict=True):
            said = tables.of_film(film.key, self._study_words(film, head))
            yield _with_boxes(_item(film.key, film, said), drawn, tables.boxes_of(film.key))
        for said in tables.left():
            yield _item(said.name, None, said)
        if tables.num_missing:
            logger.warning(
                "names in tables of files that are not here: %d; reports among them have no film", tables.num_missing
            )

    def _read_tables(self, keys: list[str]) -> Iterator[tuple[str, list[Row]]]:
        """Yield key and rows of each table; one that cannot be read is told by its place, never by its name."""
        for number, key in enumerate(keys, start=1):
            place = f"table {number} of {len(keys)} in order of names"
            try:
                rows = read_rows(self.storage, key)
            except DataError as error:
                raise DataError(error.reason, place, code=error.code) from error
            if unread := unread_columns(rows[0] if rows else ()):
                logger.warning("%s: %s", place, unread)
            yield key, rows

    def _sorted_out(self) -> tuple[list[StoredObject], int]:
        """Return films and tables, and the number of files that are neither; hidden ones do not count."""
        seen = [each for each in self.storage.list_objects() if not any(p.startswith(".") for p in each.key.split("/"))]
        found = [stored for stored in seen if _is_table(stored.key) or may_be_film(stored.key)]
        return found, len(seen) - len(found)

    def _beside(
        self, film: StoredObject, mask: StoredObject | None, givers: Givers, *, has_head: bool
    ) -> tuple[_MaskBoxes | None, bytes]:
        """Return the boxes of a film's mask, and the beginning of the film where its study is asked for."""
        if not has_head or film.key.lower().endswith(_PICTURE_SUFFIXES):
            return self._mask_boxes(mask, givers), b""
        return self._mask_boxes(mask, givers), read_head(self.storage, film.key, film.size)

    def _study_words(self, film: StoredObject, head: bytes) -> StudyWords:
        return find_study_words(self.storage, film.key, film.size, head) if head else StudyWords()

    def _mask_boxes(self, mask: StoredObject | None, givers: Givers) -> _MaskBoxes | None:
        if mask is None:
            return None
        try:
            if mask.size > MAX_MASK_BYTES:
                raise AnnotationError(f"a mask of {mask.size} bytes", code="LIMIT.FILE_SIZE")
            return _MaskBoxes(*boxes_of_mask(read_beside(self.storage, mask.key, givers)))
        except DataError as error:
            return _MaskBoxes(problem=error)


@dataclass(frozen=True)
class _MaskBoxes:
    """What a film's mask says, or why it cannot be used."""

    regions: tuple[RegionAnnotation, ...] = ()
    size: tuple[int, int] | None = None
    problem: DataError | None = None


def _with_boxes(item: SourceItem, drawn: _MaskBoxes | None, boxes: tuple[RegionAnnotation, ...]) -> SourceItem:
    if drawn is None:
        return replace(item, regions=boxes)
    return replace(item, regions=drawn.regions, boxes_size=drawn.size, problem=item.problem or drawn.problem)


def _item(name: str, film: StoredObject | None, said: Said) -> SourceItem:
    row = said.row
    report = Report(
        findings=text_of(row, "findings") or None,
        impression=text_of(row, "impression") or None,
        indication=text_of(row, "indication") or None,
    )
    labels, problem = _labels(row, said.problem)
    patient_id, study_id = text_of(row, *PATIENT_COLUMNS), text_of(row, "study_id")
    if film is None and not report.text and problem is None:
        problem = ReportError("a table row with neither film nor report", code="REPORT.NO_FILM")
    return SourceItem(
        name=name,
        film=film,
        patient_id=patient_id,
        # numbers of studies may begin anew with each patient
        study_id=f"{patient_id}/{study_id}" if patient_id and study_id else study_id,
        group=text_of(row, "case_group"),
        report=report,
        notes=text_of(row, "clinical_notes"),
        labels=labels,
        label_source="table" if labels else "",
        view_position=view_of_words(text_of(row, *VIEW_COLUMNS)),
        acquisition=acquisition_of_words(sex=text_of(row, *SEX_COLUMNS), age=text_of(row, *AGE_COLUMNS)),
        problem=problem,
    )


def _labels(row: Row, problem: DataError | None) -> tuple[LabelValues, DataError | None]:
    try:
        return labels_of(row), problem
    except AnnotationError as error:
        return {}, problem or error


def _stem(key: str) -> str:
    return key.rsplit("/", 1)[-1].rsplit(".", 1)[0]


def _is_table(key: str) -> bool:
    return "/" not in key and key.lower().endswith(TABLE_SUFFIXES)
