"""Open-i (Indiana University chest X-ray collection) as an archive: reports, and the films that lie beside them.

Three layouts, recognised by what is there:

- the official download: ``ecgen-radiology/*.xml`` (``NLMCXR_reports``), pictures as PNG (``NLMCXR_png``) or DICOM
  (``NLMCXR_dcm``) anywhere beside it;
- one table ``reports.csv`` or ``reports.parquet`` with ``uid``, ``indication``, ``findings``, ``impression``,
  ``mesh_major`` and, where known, ``images`` and ``r2gen_split``;
- the tabular copy: ``indiana_reports.csv`` and ``indiana_projections.csv``, pictures under ``images``.

Where several lie there, the XML counts, and the tables add R2Gen's split and the projections. A report without any
picture on hand is an input of its own. Labels are the hand-given codes (``mesh_codes``); a study that nobody coded
takes them from its report. The header of a DICOM film calls many a lateral view PA, so the table of projections counts
before it; without that table, a picture named ``…-2001`` is taken for lateral, which is right for 94 of 100.

Source: Demner-Fushman et al., JAMIA 2016;23(2):304-310; the split is R2Gen's (Chen et al., EMNLP 2020).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from crrg.data.archives.film_forms import choose_forms, repeated_items
from crrg.data.archives.givers import Givers, read_beside
from crrg.data.archives.mesh_codes import LABEL_SOURCE, MeshCode, labels_of_codes, read_codes
from crrg.data.archives.openi_xml import MAX_XML_BYTES, plain_text, read_openi_report
from crrg.data.archives.sources import SourceItem
from crrg.data.archives.tables import Row, iterate_rows, text_of
from crrg.data.film import may_be_film
from crrg.data.map_ahead import map_ahead
from crrg.data.view_words import view_of_words
from crrg.domain.report import Report
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import Split, ViewPosition
from crrg.errors import DataError, DicomError, IdentityError, ReportError
from crrg.storage import Storage, StoredObject

TABLE_KEYS = ("reports.parquet", "reports.csv", "indiana_reports.csv")
PROJECTION_KEYS = ("images.csv", "indiana_projections.csv")
XML_FOLDERS = ("ecgen-radiology", "NLMCXR_reports")
_CODES = ("mesh_major", "MeSH")
_SPLITS = {"train": Split.TRAIN, "val": Split.VALIDATION, "test": Split.TEST}
_XML = re.compile(r"(?:^|/)(?:CXR)?\d+\.xml$", re.IGNORECASE)
_SUFFIXES = re.compile(r"(?:\.(?:dcm|dicom|png|jpe?g))+$", re.IGNORECASE)
_NAMED_TWICE = re.compile(r"^(\d+)_(?=\1_)")
_LATERAL_NAME = "-2001"


@dataclass(frozen=True)
class _Study:
    """A study as a report file or a table row gives it; ``name`` is the file's key or the row's number."""

    name: str = field(repr=False)
    uid: str = field(default="", repr=False)
    report: Report = field(default=Report(), repr=False)
    codes: tuple[MeshCode, ...] = ()
    figures: tuple[str, ...] = field(default=(), repr=False)
    problem: DataError | None = None


class OpeniSource:
    """Reports and films of the collection, one study per patient."""

    kind = SourceKind.OPENI
    looked_for = "reports (ecgen-radiology or a table) and pictures that are named like CXR1_1_IM-0001-3001.png"
    site = "openi"

    def __init__(self, storage: Storage) -> None:
        """Open the folder that holds the reports or the tables."""
        self.storage = storage

    @staticmethod
    def recognises(storage: Storage, names: list[str]) -> bool:
        """Return whether the collection's reports or tables lie there."""
        if any(name in XML_FOLDERS for name in names):
            return True
        tables = [name for name in TABLE_KEYS if name in names]
        try:
            return bool(tables) and _has_columns(next(iterate_rows(storage, tables[0]), {}))
        except DataError:
            return False  # a folder of films says which table it is

    def inventory(self) -> list[StoredObject]:
        """Return reports, tables and films; of tables with the same content the first in ``TABLE_KEYS``."""
        objects = self.storage.list_objects()
        table = min(
            (key for stored in objects for key in TABLE_KEYS if stored.key == key), key=TABLE_KEYS.index, default=""
        )
        kept = (table, *PROJECTION_KEYS)
        return [
            stored for stored in objects if stored.key in kept or _XML.search(stored.key) or _is_picture(stored.key)
        ]

    def items(self) -> Iterator[SourceItem]:
        """Yield every study, a film at a time, then films that no study names."""
        objects = self.inventory()
        table = next((stored.key for stored in objects if stored.key in TABLE_KEYS), None)
        reports = [stored for stored in objects if _XML.search(stored.key)]
        projections = _Projections(self.storage, [stored.key for stored in objects if stored.key in PROJECTION_KEYS])
        films = _Films(stored for stored in objects if _is_picture(stored.key))
        splits = self._splits(table) if table else {}
        read_report = partial(self._read_report, Givers(self.storage, reports))
        studies = map_ahead(read_report, reports) if reports else self._rows(table, projections)
        seen: set[str] = set()
        for study in studies:
            if study.uid and study.uid in seen:
                problem = IdentityError("another report has the same study number", code="IDENTITY.CONFLICT")
                study = _Study(study.name, problem=problem)
            seen.add(study.uid)
            yield from _items(study, films, projections, splits.get(study.uid))
        for name, film in films.left():
            uid = name.split("_", 1)[0]
            view = projections.view(name)
            yield SourceItem(film.key, film, patient_id=uid, study_id=uid, instance_id=name, view_position=view)
        yield from repeated_items(films.again)

    def _splits(self, table: str) -> dict[str, Split]:
        """Return R2Gen's split by study."""
        named = {text_of(row, "uid"): text_of(row, "r2gen_split") for row in iterate_rows(self.storage, table)}
        if set(named.values()) - {"", *_SPLITS}:
            reason = f"a study has a split other than {', '.join(_SPLITS)} and blank; it would belong to no split"
            raise DataError(reason, code="PARSE.TABLE")
        return {uid: _SPLITS[name] for uid, name in named.items() if name}

    def _read_report(self, givers: Givers, stored: StoredObject) -> _Study:
        try:
            if stored.size > MAX_XML_BYTES:
                raise ReportError(f"a report file of {stored.size} bytes", code="LIMIT.REPORT")
            found = read_openi_report(read_beside(self.storage, stored.key, givers))
        except DataError as error:
            return _Study(stored.key, problem=error)
        return _Study(stored.key, found.uid, found.report, found.codes, found.figures)

    def _rows(self, table: str | None, projections: _Projections) -> Iterator[_Study]:
        for index, row in enumerate(iterate_rows(self.storage, table) if table else ()):
            uid = text_of(row, "uid")
            figures = tuple(filter(None, text_of(row, "images").split(";"))) or projections.figures(uid)
            report = Report(
                *(plain_text(text_of(row, name)) or None for name in ("findings", "impression", "indication"))
            )
            yield _Study(f"row {index}", uid, report, read_codes(plain_text(text_of(row, *_CODES))), figures)


class _Films:
    """Pictures by the name that the reports give them."""

    def __init__(self, objects: Iterable[StoredObject]) -> None:
        self._films, self.again = choose_forms(objects, _figure)
        self.is_empty = not self._films

    def take(self, figure: str) -> StoredObject | None:
        """Return and remove a picture; ``None`` where it is not there, or was taken before."""
        return self._films.pop(figure, None)

    def left(self) -> list[tuple[str, StoredObject]]:
        """Return the pictures that nobody took, by name."""
        return list(self._films.items())


class _Projections:
    """What the tables of pictures say: projection by picture, pictures by study."""

    def __init__(self, storage: Storage, keys: Iterable[str]) -> None:
        self._views: dict[str, ViewPosition] = {}
        self._figures: dict[str, list[str]] = {}
        for key in keys:
            for row in iterate_rows(storage, key):
                name = text_of(row, "image_id", "filename", "png_name")
                self._figures.setdefault(text_of(row, "uid"), []).append(name)
                view = _view(row)
                if view is not None:
                    self._views[_figure(name)] = view

    def view(self, figure: str) -> ViewPosition | None:
        """Return a picture's projection; ``None`` to take the file's."""
        known = self._views.get(figure)
        return ViewPosition.LATERAL if known is None and figure.endswith(_LATERAL_NAME) else known

    def figures(self, uid: str) -> tuple[str, ...]:
        """Return the names of a study's pictures."""
        return tuple(self._figures.get(uid, ()))


def _items(study: _Study, films: _Films, projections: _Projections, split: Split | None) -> Iterator[SourceItem]:
    if study.problem is not None:
        yield SourceItem(study.name, problem=study.problem)
        return
    labels = labels_of_codes(study.codes)
    figures = dict.fromkeys(_figure(name) for name in study.figures)
    found = {figure: film for figure in figures if (film := films.take(figure)) is not None}
    for figure, film in found.items():
        yield SourceItem(
            name=film.key,
            film=film,
            patient_id=study.uid,
            study_id=study.uid,
            instance_id=figure,
            report=study.report,
            labels=labels,
            label_source=LABEL_SOURCE if labels else "",
            view_position=projections.view(figure),
            split=split,
        )
    for figure in figures if not films.is_empty else ():
        if figure not in found:
            problem = DicomError("a report names a picture that is not there", code="NO_PIXELS.NO_FILE")
            yield SourceItem(f"{study.name} {figure}", problem=problem)
    if not found:
        has_text = bool(study.report.text)
        yield SourceItem(
            name=study.name,
            patient_id=study.uid,
            study_id=study.uid,
            report=study.report,
            labels=labels,
            label_source=LABEL_SOURCE if labels else "",
            split=split,
            problem=None if has_text else ReportError("neither findings nor impression", code="REPORT.EMPTY"),
        )


def _has_columns(row: Mapping[str, object]) -> bool:
    return {"uid", "findings", "impression"} <= row.keys() and any(name in row for name in _CODES)


def _is_picture(key: str) -> bool:
    return may_be_film(key) and bool(_SUFFIXES.search(key))


def _figure(key: str) -> str:
    """Return a picture's name in the way that all its spellings share.

    ``CXR1_1_IM-0001-3001``, ``1_IM-0001-3001.dcm`` and ``1_IM-0001-3001.dcm.png`` are one picture.
    """
    name = _SUFFIXES.sub("", key.rsplit("/", 1)[-1])
    return _NAMED_TWICE.sub("", name.removeprefix("CXR"))


def _view(row: Row) -> ViewPosition | None:
    projection, header = view_of_words(text_of(row, "projection")), view_of_words(text_of(row, "view_position"))
    if projection is ViewPosition.LATERAL:
        return header if header is ViewPosition.LL else projection
    return header if projection is not None and header in (ViewPosition.PA, ViewPosition.AP) else projection
