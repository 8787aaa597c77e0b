"""CheXpert as an archive: films with labels of their reports, no reports.

Layout: ``train.csv``, ``valid.csv`` and, where it was released, ``test.csv`` (or ``test_labels.csv``) with ``Path`` and
the 14 labels, ``Sex``, ``Age``, ``Frontal/Lateral`` and ``AP/PA`` in some of them, beside a tree of
``patient00001/study1/view1_frontal.jpg``; all of it at the root or in folders ``CheXpert-v1.0…``. Paths in the tables
begin with the name of one release and the tree with that of another, so a film is found by its last three parts.
Unknown sex and age (``Unknown``, 0) refuse nothing.

The release's split is kept: its ``valid`` is the validation split, and patients named in ``chexpert_5x200.csv``, where
that list of GLoRIA lies beside the tables, are the test split.

Source: Irvin et al., AAAI 2019; Huang et al., GLoRIA, ICCV 2021 (the list of 5x200).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from crrg.data.acquisition_words import acquisition_of_words
from crrg.data.archives.film_forms import choose_forms, repeated_items
from crrg.data.archives.sources import SourceItem
from crrg.data.archives.tables import Row, iterate_rows, labels_of, text_of
from crrg.data.film import may_be_film
from crrg.data.view_words import view_of_words
from crrg.domain.labels import LabelValues
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import Split, ViewPosition
from crrg.errors import AnnotationError, DataError, DicomError
from crrg.storage import Storage, StoredObject

LABEL_SOURCES = {Split.TRAIN: "chexpert", Split.VALIDATION: "radiologist", Split.TEST: "radiologist"}
"""Labels of the training films are a labeler's reading of their reports; radiologists made the others."""
_TABLES = {
    "train.csv": Split.TRAIN,
    "valid.csv": Split.VALIDATION,
    "test.csv": Split.TEST,
    "test_labels.csv": Split.TEST,
}
_TEST_LIST = "chexpert_5x200.csv"
_FOLDER = "chexpert"
_TAIL = re.compile(r"(?:^|/)(?P<patient>patient\d+)/(?P<study>study\d+)/(?P<view>view\d+_[a-z]+)\.\w+$", re.IGNORECASE)


class ChexpertSource:
    """Films of the release with their labels."""

    kind = SourceKind.CHEXPERT
    looked_for = "train.csv, valid.csv or test.csv and films like patient00001/study1/view1_frontal.jpg"
    site = "chexpert"

    def __init__(self, storage: Storage) -> None:
        """Open the folder that holds the tables, or the folders of the release."""
        self.storage = storage

    @staticmethod
    def recognises(storage: Storage, names: list[str]) -> bool:
        """Return whether one of the release's tables lies there, or a folder of the release that holds one."""
        places = ["", *(f"{name}/" for name in names if name.lower().startswith(_FOLDER))]
        tables = [
            f"{place}{name}"
            for place in places
            for name in (names if place == "" else storage.list_folder(place))
            if name in _TABLES
        ]
        # the smallest first: a table is read as a whole
        return any(_is_table(storage, key) for key in sorted(tables, key=lambda key: key.endswith("train.csv"))[:1])

    def inventory(self) -> list[StoredObject]:
        """Return tables and films."""
        return [
            stored
            for stored in self.storage.list_objects()
            if _name(stored.key) in (*_TABLES, _TEST_LIST) or (_TAIL.search(stored.key) and may_be_film(stored.key))
        ]

    def items(self) -> Iterator[SourceItem]:
        """Yield the rows of each table with their films, then films that no table names."""
        objects = self.inventory()
        films, again = choose_forms((stored for stored in objects if _TAIL.search(stored.key)), _tail)
        tables = sorted((stored.key for stored in objects if _name(stored.key) in _TABLES), key=_order_of_table)
        test_patients = self._test_patients(objects)
        seen: set[str] = set()
        for key in tables:
            for index, row in enumerate(iterate_rows(self.storage, key)):
                tail = _tail(text_of(row, "Path"))
                if tail in seen:
                    continue
                seen.add(tail or f"{key} row {index}")
                split = Split.TEST if tail.split("/", 1)[0] in test_patients else _TABLES[_name(key)]
                yield _item(tail or f"{key} row {index}", films.pop(tail, None), row, split, _TABLES[_name(key)])
        for tail, stored in films.items():
            yield _item(tail, stored, {}, None, None)
        yield from repeated_items(again)

    def _test_patients(self, objects: list[StoredObject]) -> frozenset[str]:
        patients = (
            _tail(text_of(row, "Path")).split("/", 1)[0]
            for stored in objects
            if _name(stored.key) == _TEST_LIST
            for row in iterate_rows(self.storage, stored.key)
        )
        return frozenset(patients) - {""}


def _is_table(storage: Storage, key: str) -> bool:
    try:
        row = next(iterate_rows(storage, key), {})
    except DataError:
        return False
    return _tail(text_of(row, "Path")) != "" and "No Finding" in row


def _name(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _order_of_table(key: str) -> tuple[int, str]:
    return list(_TABLES).index(_name(key)), key


def _tail(path: str) -> str:
    """Return patient, study and view of a path, by which releases agree; empty where it has none."""
    match = _TAIL.search(path)
    return "/".join(match.group("patient", "study", "view")).lower() if match else ""


def _item(tail: str, film: StoredObject | None, row: Row, split: Split | None, made_for: Split | None) -> SourceItem:
    problem: DataError | None = None
    if film is None:
        is_path = tail.startswith("patient")
        problem = (
            DicomError("a table names a film that is not there", code="NO_PIXELS.NO_FILE")
            if is_path
            else AnnotationError("a row names no film of the release", code="PARSE.TABLE_ROW")
        )
    patient, *rest = tail.split("/")
    labels: LabelValues = {}
    try:
        labels = labels_of(row)
    except AnnotationError as error:
        problem = problem or error
    return SourceItem(
        name=film.key if film else tail,
        film=film,
        patient_id=patient,
        study_id="/".join([patient, *rest[:1]]),
        instance_id=tail,
        labels=labels,
        label_source=LABEL_SOURCES[made_for] if labels and made_for else "",
        view_position=_view(tail, row),
        acquisition=acquisition_of_words(sex=text_of(row, "Sex"), age=text_of(row, "Age")),
        split=split,
        problem=problem,
    )


def _view(tail: str, row: Row) -> ViewPosition:
    """Return the projection: the column of frontal and lateral first, since it is the one that never contradicts."""
    side = text_of(row, "Frontal/Lateral").lower() or ("lateral" if tail.endswith("lateral") else "frontal")
    view = view_of_words(text_of(row, "AP/PA"))
    if side == "lateral":
        return ViewPosition.LL if view is ViewPosition.LL else ViewPosition.LATERAL
    return view if view in (ViewPosition.PA, ViewPosition.AP) else ViewPosition.UNKNOWN
