"""The tables at the top of a folder of films: what they say of each film, and what they say of no film.

A table is known by its columns alone, in any case: one that names files says something of films, one that names studies
says something of all films of a study, one of corners holds boxes. A cell that one table leaves blank is taken from the
next. Whatever row does not count is named, never passed over. Knows no picture; ``folder`` puts both together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from crrg.data.archives.film_names import ByFilm, plain_name
from crrg.data.archives.folder_columns import (
    FILE_COLUMNS,
    PATIENT_COLUMNS,
    STUDY_COLUMNS,
    plain_column,
    says_something,
)
from crrg.data.archives.region_boxes import boxes_of_rows, is_box_table
from crrg.data.archives.report_versions import settle_report
from crrg.data.archives.tables import Row, text_of
from crrg.data.dicom.study_words import StudyWords
from crrg.data.reports.sections import Mode
from crrg.domain.study import RegionAnnotation
from crrg.errors import DataError, IdentityError, ReportError


@dataclass(frozen=True, slots=True)
class _TableRow:
    table: int
    number: int
    row: Row

    @property
    def name(self) -> str:
        return f"table {self.table} row {self.number}"


@dataclass(frozen=True)
class Said:
    """What tables say of one film, or of a report without a film.

    Attributes:
        name: Name of the first row.
        row: Its cells, the report cut into sections.
        problem: Why it cannot be used; ``None`` if nothing is wrong.
    """

    name: str
    row: Row = field(repr=False)
    problem: DataError | None = None


class FolderTables:
    """All tables of a folder.

    Attributes:
        num_missing: Names of films that are not here, as far as ``left`` has yielded what is said of them.
    """

    def __init__(self, tables: Iterable[tuple[str, list[Row]]], films: Iterable[str], mode: Mode) -> None:
        """Sort the rows of all tables by what they are about.

        Args:
            tables: Key and rows of each.
            films: Keys of all films.
            mode: How whole reports are cut.

        Raises:
            DataError: PARSE.TABLE where a table of boxes makes no sense.
        """
        self.num_missing = 0
        self._mode = mode
        self._superseded: dict[str, _TableRow] = {}
        self._unknown: list[tuple[str, str]] = []
        self._studies: dict[tuple[str, str], list[_TableRow]] = {}
        self._used: set[str] = set()
        by_file: dict[str, list[_TableRow]] = {}
        boxes: dict[str, tuple[RegionAnnotation, ...]] = {}
        for number, (key, written) in enumerate(tables, start=1):
            rows = [_with_plain_columns(row) for row in written]
            first = rows[0] if rows else {}
            names_files = any(column in first for column in FILE_COLUMNS)
            if names_files and is_box_table(first):
                found = boxes_of_rows(rows, FILE_COLUMNS)
                boxes = {plain_name(name): drawn for name, drawn in found.items()} | boxes
            elif names_files:
                for place, row in enumerate(rows, start=1):
                    name = plain_name(text_of(row, *FILE_COLUMNS)) or f"table {number} row {place}"
                    by_file.setdefault(name, []).append(_TableRow(number, place, row))
                self._check_says(key, first, FILE_COLUMNS)
            elif first.keys() & STUDY_COLUMNS.keys():
                self._add_studies(_TableRow(number, place, row) for place, row in enumerate(rows, start=1))
                self._check_says(key, first, STUDY_COLUMNS)
            elif rows:
                self._unknown.append((key, "names neither files nor studies with reports"))
        keys = list(films)
        self._by_film, self._boxes = ByFilm(by_file, keys), ByFilm(boxes, keys)

    @property
    def names_studies(self) -> bool:
        """Whether there are reports that are found by the study of a film."""
        return bool(self._studies)

    def of_film(self, key: str, words: StudyWords) -> Said:
        """Return what is said of a film, by its name and by its study.

        Args:
            key: Key of the film.
            words: What the film says of its study.
        """
        by_file = [row for rows in self._by_film.of(key) for row in rows]
        own = self._settle(by_file, key)
        by_study = self._rows_of_study(own.row, words)
        if not by_study:
            return own
        told = self._settle(by_study, key)
        joined = own.row | {name: value for name, value in told.row.items() if text_of(own.row, name) == ""}
        patients = {words.patient_id or text_of(own.row, *PATIENT_COLUMNS)}
        problem = own.problem or told.problem
        if len((patients | {text_of(each.row, *PATIENT_COLUMNS) for each in by_study}) - {""}) > 1:
            problem = IdentityError("the report of this study is of another patient", code="IDENTITY.CONFLICT")
        return Said(key, joined, problem)

    def boxes_of(self, key: str) -> tuple[RegionAnnotation, ...]:
        """Return the boxes that a table has of a film."""
        return next(iter(self._boxes.of(key)), ())

    def left(self) -> Iterator[Said]:
        """Yield what is said of no film, and rows and tables that do not count; after all films."""
        for name, rows, is_ambiguous in self._by_film.left():
            said = self._settle(rows, name)
            if is_ambiguous:
                problem = IdentityError("a row names several files; give the path", code="IDENTITY.CONFLICT")
                said = Said(said.name, said.row, problem)
            elif name != rows[0].name:
                self.num_missing += 1
                said = Said(said.name, said.row, said.problem or _film_is_missing(said.row))
            yield said
        for rows in self._studies_left():
            said = self._settle(rows, rows[0].name)
            study_id = text_of(said.row, *STUDY_COLUMNS) or rows[0].name
            yield Said(said.name, said.row | {"study_id": study_id}, said.problem)
        for each in sorted(self._superseded.values(), key=lambda each: (each.table, each.number)):
            replaced = ReportError("another row counts for the same film or study", code="DUPLICATE.REPORT")
            yield Said(each.name, {}, replaced)
        for key, fault in self._unknown:
            reason = f"the table {fault}; name its columns as docs/sources.md says"
            yield Said(key, {}, DataError(reason, code="PARSE.TABLE"))

    def _check_says(self, key: str, row: Row, names: Iterable[str]) -> None:
        """Note a table that says nothing of the films or studies that it names."""
        if not says_something(row, names):
            self._unknown.append((key, "has no column with text, labels or identifiers beside those that name films"))

    def _add_studies(self, rows: Iterable[_TableRow]) -> None:
        for each in rows:
            for name in _study_names(each.row) or [("", each.name)]:
                self._studies.setdefault(name, []).append(each)

    def _rows_of_study(self, row: Row, words: StudyWords) -> list[_TableRow]:
        """Return the rows about a film's study, each once, and remember that they have a film."""
        if not self._studies:
            return []
        names = [*_study_names(row), ("study", words.study_instance_uid), ("accession", words.accession_number)]
        found = {each.name: each for name in names if name[1] for each in self._studies.get(name, ())}
        self._used |= found.keys()
        return sorted(found.values(), key=lambda each: (each.table, each.number))

    def _studies_left(self) -> Iterator[list[_TableRow]]:
        seen = set(self._used)
        for rows in self._studies.values():
            left = [each for each in rows if each.name not in seen]
            seen.update(each.name for each in left)
            if left:
                yield left

    def _settle(self, rows: list[_TableRow], name: str) -> Said:
        """Join the versions of a report within each table, then fill blank cells from one table to the next."""
        tables: dict[int, list[_TableRow]] = {}
        for each in rows:
            tables.setdefault(each.table, []).append(each)
        joined: Row = {}
        problem: DataError | None = None
        for of_table in tables.values():
            settled = settle_report([each.row for each in of_table], self._mode)
            for number in settled.superseded:
                self._superseded[of_table[number].name] = of_table[number]
            problem = problem or settled.problem
            joined |= {column: value for column, value in settled.row.items() if text_of(joined, column) == ""}
        people = {text_of(each.row, *PATIENT_COLUMNS) for each in rows} - {""}
        studies = {text_of(each.row, "study_id") for each in rows} - {""}
        if len(people) > 1 or len(studies) > 1:
            problem = IdentityError("rows name different patients or studies for one film", code="IDENTITY.CONFLICT")
        return Said(name, joined, problem)


def _with_plain_columns(row: Row) -> Row:
    """Return a row whose columns are in lower case with underscores; of equal ones the first with text counts."""
    plain: Row = {}
    for name, value in row.items():
        column = plain_column(name)
        if column and not text_of(plain, column):
            plain[column] = value
    return plain


def _film_is_missing(row: Row) -> DataError | None:
    """Return why a row about a film that is not here cannot be used as a report by itself; ``None`` where it can."""
    where = "the table names a file that is not here"
    if not text_of(row, "findings", "impression"):
        return ReportError(f"{where}, and its row has no report", code="REPORT.NO_FILM")
    if not text_of(row, *PATIENT_COLUMNS):
        return IdentityError(f"{where}, and no patient whose report it could be", code="IDENTITY.MISSING")
    return None


def _study_names(row: Row) -> list[tuple[str, str]]:
    names = [(kind, text_of(row, column)) for column, kind in STUDY_COLUMNS.items()]
    return [name for name in names if name[1]]
