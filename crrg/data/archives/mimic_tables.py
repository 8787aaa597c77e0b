"""What the tables beside MIMIC-CXR say of films and studies: view, size, published split, labels.

Tables are ``mimic-cxr-2.x.y-metadata``, ``-split``, ``-chexpert``, ``-negbio`` (``.csv`` or ``.csv.gz``) and
``-test-set-labeled.csv``, anywhere under the root; each may be missing. Knows no film and no report.

Source: Johnson et al., MIMIC-CXR-JPG, PhysioNet 2019-2024 (version 2.1.0).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from crrg.data.archives.big_tables import read_frame
from crrg.data.view_words import view_of_words
from crrg.domain.labels import LABELS, LabelValues
from crrg.domain.study import Split, ViewPosition
from crrg.errors import AnnotationError, DataError
from crrg.storage import Storage, StoredObject

TABLE_PATTERN = re.compile(
    r"(?:^|/)mimic-cxr-2\.\d+\.\d+-(?P<table>metadata|split|chexpert|negbio|test-set-labeled)\.csv(?:\.gz)?$"
)
_KEYS = ("subject_id", "study_id")
_VIEW_COLUMNS = ("ViewPosition", "ViewCodeSequence_CodeMeaning", "PerformedProcedureStepDescription")
_SPLITS = {"train": Split.TRAIN, "validate": Split.VALIDATION, "test": Split.TEST}
_HELD_OUT_FIRST = (Split.TEST, Split.VALIDATION, Split.TRAIN)

LABEL_TABLES: tuple[tuple[str, str], ...] = (
    ("test-set-labeled", "radiologist"),
    ("chexpert", "chexpert"),
    ("negbio", "negbio"),
)
"""Table and label source, the most trusted first: a study takes its labels from the first table that knows it."""

_OTHER_NAMES = {"Lung Opacity": "Airspace Opacity"}
"""Label to its name in the table of the hand-labelled test set."""

_UNMENTIONED, _NO_VALUE = -128, -127
_BLANK = "NaN"
_VALUES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1} | dict.fromkeys((_BLANK, "nan"), _UNMENTIONED)
_CODED_VIEWS = {
    "postero-anterior": ViewPosition.PA,
    "antero-posterior": ViewPosition.AP,
    "left lateral": ViewPosition.LL,
    "lateral": ViewPosition.LATERAL,
}
_VIEW_WORDS = re.compile(r"\b(PA|AP|LAT|LATERAL)\b")


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """What the tables say of one film.

    Attributes:
        patient_id: ``subject_id``.
        study_id: ``study_id``.
        view_position: Projection; ``None`` where nothing tells it.
        size: Width and height of the published film in pixels; ``None`` where unknown.
    """

    patient_id: str = field(repr=False)
    study_id: str = field(repr=False)
    view_position: ViewPosition | None
    size: tuple[int, int] | None


class StudyLabels:
    """One table of labels, a row of 14 small numbers per study."""

    def __init__(self, frame: pl.DataFrame, source: str) -> None:
        """Keep the values, and which studies have a value other than 1, 0, -1 and blank, or rows that differ."""
        self.source = source
        self._values: NDArray[np.int8] = np.full((len(frame), len(LABELS)), _UNMENTIONED, np.int8)
        for column, label in enumerate(LABELS):
            name = label if label in frame.columns else _OTHER_NAMES.get(label, label)
            texts = frame[name].fill_null(_BLANK)
            self._values[:, column] = texts.replace_strict(_VALUES, default=_NO_VALUE, return_dtype=pl.Int8).to_numpy()
        self._rows: dict[str, int] = {}
        self._damaged: set[str] = set()
        is_damaged = (self._values == _NO_VALUE).any(axis=1)
        for row, study in enumerate(frame["study_id"].to_list()):
            first = self._rows.setdefault(study, row)
            if is_damaged[row] or (self._values[row] != self._values[first]).any():
                self._damaged.add(study)

    def studies(self) -> Iterable[str]:
        """Return the studies of the table."""
        return self._rows

    def of(self, study_id: str) -> LabelValues | None:
        """Return all 14 labels of a study, ``None`` for unmentioned ones; ``None`` where the table lacks the study.

        Raises:
            AnnotationError: INTEGRITY.LABELS where it is not known what the table says.
        """
        if study_id in self._damaged:
            reason = "the table of labels has a value other than 1, 0, -1 and blank for the study, or rows that differ"
            raise AnnotationError(reason, code="INTEGRITY.LABELS")
        row = self._rows.get(study_id)
        if row is None:
            return None
        values = self._values[row].tolist()
        return {label: None if value == _UNMENTIONED else value for label, value in zip(LABELS, values, strict=True)}


FilmTable: TypeAlias = Mapping[str, FilmFacts]


@dataclass(frozen=True)
class MimicTables:
    """All tables of the archive.

    Attributes:
        films: Facts by ``dicom_id``.
        split_of_patient: Published split by ``subject_id``.
        labels: Tables of labels, the most trusted first.
    """

    films: FilmTable
    split_of_patient: Mapping[str, Split]
    labels: tuple[StudyLabels, ...]

    def labels_of(self, study_id: str) -> tuple[LabelValues, str]:
        """Return a study's labels and their source; empty where no table knows it.

        Raises:
            AnnotationError: INTEGRITY.LABELS, see ``StudyLabels.of``.
        """
        for table in self.labels:
            values = table.of(study_id)
            if values is not None:
                return values, table.source
        return {}, ""


def read_mimic_tables(storage: Storage, objects: Iterable[StoredObject]) -> MimicTables:
    """Read the tables among some objects; of a table that is there packed and plain, the plain one.

    Args:
        storage: Where they lie.
        objects: What lies there.

    Raises:
        DataError: PARSE.TABLE or LIMIT.TABLE.
    """
    keys: dict[str, str] = {}
    for stored in objects:
        match = TABLE_PATTERN.search(stored.key)
        if match:
            keys[match.group("table")] = min(keys.get(match.group("table"), stored.key), stored.key, key=len)
    films: dict[str, FilmFacts] = {}
    split_of_patient: dict[str, Split] = {}
    if "split" in keys:
        frame = read_frame(storage, keys["split"], ("dicom_id", *_KEYS, "split"))
        if set(frame["split"].drop_nulls()) - _SPLITS.keys():
            reason = f"a split is not one of {', '.join(_SPLITS)}; its patients would belong to no split"
            raise DataError(reason, code="PARSE.TABLE")
        films.update(_facts_of_splits(frame))
        split_of_patient = splits_by_patient(zip(frame["subject_id"], frame["split"], strict=True), _SPLITS)
    if "metadata" in keys:
        columns = ("dicom_id", *_KEYS)
        films.update(_facts(read_frame(storage, keys["metadata"], columns, (*_VIEW_COLUMNS, "Rows", "Columns"))))
    labels = tuple(
        StudyLabels(_read_labels(storage, keys[table], table), source)
        for table, source in LABEL_TABLES
        if table in keys
    )
    return MimicTables(films, split_of_patient, labels)


def splits_by_patient(rows: Iterable[tuple[str | None, str | None]], names: Mapping[str, Split]) -> dict[str, Split]:
    """Return one split per patient: the most held-out one of a patient whom a table puts into several.

    Args:
        rows: Patient and name of a split; other names count as none.
        names: Split by its name in the table.
    """
    found: dict[str, Split] = {}
    for patient_id, name in rows:
        split = names.get(name or "")
        if patient_id and split:
            found[patient_id] = min(found.get(patient_id, split), split, key=_HELD_OUT_FIRST.index)
    return found


def _facts(frame: pl.DataFrame) -> dict[str, FilmFacts]:
    return _by_film(
        (instance, FilmFacts(patient or "", study or "", _view(*views), _size(columns, rows)))
        for instance, patient, study, *views, rows, columns in frame.iter_rows()
    )


def _facts_of_splits(frame: pl.DataFrame) -> dict[str, FilmFacts]:
    rows = frame.select("dicom_id", *_KEYS).iter_rows()
    return _by_film((instance, FilmFacts(patient or "", study or "", None, None)) for instance, patient, study in rows)


def _by_film(rows: Iterable[tuple[str | None, FilmFacts]]) -> dict[str, FilmFacts]:
    """Return facts by film; one that rows give to several studies is nobody's, which no path agrees with."""
    found: dict[str, FilmFacts] = {}
    for instance, facts in rows:
        if not instance:
            continue
        first = found.setdefault(instance, facts)
        if (first.patient_id, first.study_id) != (facts.patient_id, facts.study_id):
            found[instance] = replace(first, patient_id="", study_id="")
    return found


def _view(position: str | None, coded: str | None, procedure: str | None) -> ViewPosition | None:
    """Return the projection; where ViewPosition is blank, what the coded view or an unambiguous procedure says."""
    said = view_of_words(position or "")
    if said is not None and said is not ViewPosition.UNKNOWN:
        return said
    named = set(_VIEW_WORDS.findall((procedure or "").upper()))
    procedure_view = ViewPosition(named.pop()) if named in ({"PA"}, {"AP"}) else None
    return _CODED_VIEWS.get((coded or "").lower()) or procedure_view or said


def _size(width: str | None, height: str | None) -> tuple[int, int] | None:
    try:
        size = int(float(width or 0)), int(float(height or 0))
    except (ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def _read_labels(storage: Storage, key: str, table: str) -> pl.DataFrame:
    names = [_OTHER_NAMES.get(label, label) if table == "test-set-labeled" else label for label in LABELS]
    frame = read_frame(storage, key, ("study_id",), names)
    return frame.filter(pl.col("study_id").is_not_null())
