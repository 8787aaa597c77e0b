"""MIMIC-CXR and MIMIC-CXR-JPG as an archive: films in either tree, reports, and the tables beside them.

Obtain: PhysioNet (credentialed). Found anywhere under the root: films ``p10/p10000032/s50414267/<dicom_id>.jpg`` or
``.dcm``, reports ``p10/p10000032/s50414267.txt`` loose or in ``mimic-cxr-reports.zip``, and the tables that
``mimic_tables`` reads. Patient and study come from the path. A film is accepted without a report and a report without
a film; a row of a table whose film or study is not there is refused by name. Where reports are cut compatibly with
published work, the studies that it leaves out have no report.

Source: Johnson et al., MIMIC-CXR, Scientific Data 2019;6:317.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from crrg.data.archives.checksums import SUMS_PATTERN, read_checksums
from crrg.data.archives.members import Members
from crrg.data.archives.mimic_tables import TABLE_PATTERN, MimicTables, read_mimic_tables
from crrg.data.archives.sources import SourceItem
from crrg.data.decoding.limits import in_force
from crrg.data.map_ahead import map_ahead
from crrg.data.reports.sections import Mode, parse_sections
from crrg.data.reports.sections_compatible import HAND_CUT_STUDIES
from crrg.domain.labels import LabelValues
from crrg.domain.report import Report
from crrg.domain.source_kind import SourceKind
from crrg.errors import AnnotationError, DataError, DicomError, IdentityError, ReportError
from crrg.storage import Storage, StoredObject

logger = logging.getLogger(__name__)

SITE = "mimic-cxr"
FILM_FORMS = ("jpg", "jpeg", "png", "dcm")
"""Suffixes of films; where a film lies in several forms, the first counts: published numbers rest on the JPGs."""

_FILM = re.compile(r"(?:^|/)p(?P<patient>\d+)/s(?P<study>\d+)/(?P<name>[^/]+)\.(?P<form>jpe?g|png|dcm)$", re.IGNORECASE)
_STRAY = re.compile(r"(?:^|/)(?:files|p\d{2})/(?:.*/)?[^/]+\.(?:jpe?g|png|dcm)$", re.IGNORECASE)
_REPORT = re.compile(r"(?:^|/)p(?P<patient>\d+)/s(?P<name>\d+)\.txt$")
_REPORTS_ZIP = re.compile(r"(?:^|/)mimic-cxr-reports\.zip$")
_GROUP = re.compile(r"p\d{2}")
_MAX_BYTES_PER_CHARACTER = 4


@dataclass
class _Study:
    """One examination as it lies in the tree: films by ``dicom_id``, each in one or several forms."""

    patient_id: str = field(repr=False)
    study_id: str = field(repr=False)
    films: dict[str, list[StoredObject]] = field(default_factory=dict, repr=False)
    is_ambiguous: bool = False


class MimicCxrSource:
    """Films, reports and labels of the collection."""

    kind = SourceKind.MIMIC_CXR
    looked_for = "films like p10/p10000032/s50414267/<dicom_id>.jpg and reports like p10/p10000032/s50414267.txt"
    site = SITE

    def __init__(self, storage: Storage) -> None:
        """Open the root under which the collection lies."""
        self.storage = storage
        self.section_mode: Mode = "general"

    @staticmethod
    def recognises(storage: Storage, names: list[str]) -> bool:
        """Return whether a table of the collection or its tree of patients lies there."""
        if any(name.startswith("mimic-cxr") for name in names):
            return True
        groups = storage.list_folder("files") if "files" in names else names
        return any(_GROUP.fullmatch(name) for name in groups)

    @cached_property
    def objects(self) -> list[StoredObject]:
        """Everything under the root but hidden objects, listed once: what is counted is what is read."""
        return [
            stored
            for stored in self.storage.list_objects()
            if not any(part.startswith(".") for part in stored.key.split("/"))
        ]

    def inventory(self) -> list[StoredObject]:
        """Return films, reports and tables."""
        patterns = (_FILM, _STRAY, _REPORT, _REPORTS_ZIP, TABLE_PATTERN, SUMS_PATTERN)
        return [stored for stored in self.objects if any(pattern.search(stored.key) for pattern in patterns)]

    def items(self) -> Iterator[SourceItem]:
        """Yield the films of every study, or its report alone; then what cannot be used.

        Unusable are films whose path names no study, and rows of tables without a film or without anything.
        """
        tables = read_mimic_tables(self.storage, self.objects)
        reports = self._reports()
        studies, strays = self._studies(reports)
        sums = read_checksums(self.storage, self.objects, _FILM)
        known: set[str] = set()
        for items in map_ahead(partial(_items_of, tables, reports, self.section_mode), studies):
            known.update(item.instance_id for item in items if item.instance_id)
            yield from (replace(item, sha256=sums.get(item.name, "")) for item in items)
        for stray in strays:
            problem = IdentityError("the path names neither patient nor study", code="IDENTITY.MISSING")
            yield SourceItem(name=stray.key, film=stray, problem=problem)
        yield from _rows_without_film(tables, known)
        yield from _rows_without_study(tables, {study.study_id for study in studies})

    def _reports(self) -> Members:
        most = _MAX_BYTES_PER_CHARACTER * in_force.inputs.max_report_characters
        packed = [stored for stored in self.objects if _REPORTS_ZIP.search(stored.key)]
        return Members(self.storage, _REPORT, self.objects, packed, most)

    def _studies(self, reports: Members) -> tuple[list[_Study], list[StoredObject]]:
        """Return all studies that have a film or a report, by patient and study, and films that belong to none."""
        studies: dict[tuple[str, str], _Study] = {}
        strays = []
        for stored in self.objects:
            match = _FILM.search(stored.key)
            if match:
                key = match.group("patient"), match.group("study")
                study = studies.setdefault(key, _Study(*key))
                study.films.setdefault(match.group("name"), []).append(stored)
            elif _STRAY.search(stored.key):
                strays.append(stored)
        for study_id, path in reports.all_paths():
            match = _REPORT.search(path)
            key = (match.group("patient") if match else "", study_id)
            studies.setdefault(key, _Study(*key))
        _mark_ambiguous(studies.values())
        num_films = sum(len(study.films) for study in studies.values())
        without_report = sum(len(study.films) for study in studies.values() if study.study_id not in reports)
        without_film = sum(not study.films for study in studies.values())
        logger.info(
            "%d studies with %d films; %d films without report, %d reports without film",
            len(studies), num_films, without_report, without_film,
        )  # fmt: skip
        return [studies[key] for key in sorted(studies)], strays


def _mark_ambiguous(studies: Collection[_Study]) -> None:
    """Mark studies that lie under more than one patient: nobody can tell whose they are."""
    times = Counter(study.study_id for study in studies)
    for study in studies:
        study.is_ambiguous = times[study.study_id] > 1


def _items_of(tables: MimicTables, reports: Members, mode: Mode, study: _Study) -> list[SourceItem]:
    """Return the inputs of one study: one per film, or one for the report alone."""
    report, problem = _read_report(reports, study.study_id, mode)
    labels, label_source, damage = _read_labels(tables, study.study_id)
    problem = problem or damage
    if study.is_ambiguous:
        problem = IdentityError("the study lies under several patients", code="IDENTITY.CONFLICT")
    whole = SourceItem(
        name=f"s{study.study_id}.txt",
        patient_id=study.patient_id,
        study_id=study.study_id,
        report=report,
        labels=labels,
        label_source=label_source,
        split=tables.split_of_patient.get(study.patient_id),
        problem=problem,
    )
    if not study.films:
        return [whole]
    return [item for name in sorted(study.films) for item in _items_of_film(whole, name, study.films[name], tables)]


def _items_of_film(whole: SourceItem, name: str, forms: list[StoredObject], tables: MimicTables) -> list[SourceItem]:
    """Return one input per form in which a film lies; all but the first are duplicates."""
    facts = tables.films.get(name)
    problem = whole.problem
    if facts is not None and (facts.patient_id, facts.study_id) != (whole.patient_id, whole.study_id):
        problem = IdentityError("path and tables name different studies", code="IDENTITY.CONFLICT")
    first, *others = sorted(forms, key=lambda stored: (_form_rank(stored.key), stored.key))
    film = replace(whole, name=first.key, film=first, instance_id=name, problem=problem)
    if facts is not None:
        film = replace(film, view_position=facts.view_position, boxes_size=facts.size)
    again = DicomError("the same film lies here in another form", code="DUPLICATE.FORM")
    return [film, *(replace(film, name=other.key, film=other, problem=again) for other in others)]


def _form_rank(key: str) -> int:
    return FILM_FORMS.index(key.rsplit(".", 1)[-1].lower())


def _read_report(reports: Members, study_id: str, mode: Mode) -> tuple[Report, DataError | None]:
    """Return a study's report, empty where there is none or none to compare with, or why it cannot be read."""
    if study_id not in reports or (mode == "compatible" and study_id in HAND_CUT_STUDIES):
        return Report(), None
    try:
        text = reports.read(study_id).decode("utf-8-sig", errors="replace")
        return parse_sections(text, mode), None
    except DataError as error:
        code = "LIMIT.REPORT" if error.code == "LIMIT.FILE_SIZE" else error.code
        return Report(), ReportError(error.reason, code=code)


def _read_labels(tables: MimicTables, study_id: str) -> tuple[LabelValues, str, DataError | None]:
    try:
        return *tables.labels_of(study_id), None
    except AnnotationError as error:
        return {}, "", error


def _rows_without_film(tables: MimicTables, known: set[str]) -> Iterator[SourceItem]:
    problem = DicomError("the tables name a film that is not there", code="NO_PIXELS.NO_FILE")
    for name in sorted(set(tables.films) - known):
        facts = tables.films[name]
        yield SourceItem(
            name=name, patient_id=facts.patient_id, study_id=facts.study_id, instance_id=name, problem=problem
        )


def _rows_without_study(tables: MimicTables, known: set[str]) -> Iterator[SourceItem]:
    """Yield label rows of studies that neither the tree nor any other table knows."""
    known = known | {facts.study_id for facts in tables.films.values()}
    problem = ReportError("a table row with neither film nor report", code="REPORT.NO_FILM")
    for study_id in sorted({study for table in tables.labels for study in table.studies()} - known):
        yield SourceItem(name=f"s{study_id}", study_id=study_id, problem=problem)
