"""The RSNA Pneumonia Detection Challenge (stage 2) as an archive: films with one judgement each, no reports.

Layout: ``stage_2_train_labels.csv`` (``patientId, x, y, width, height, Target``, one row per box, one row without box
where there is none), ``stage_2_detailed_class_info.csv`` (``patientId, class``, as many rows as the labels), and
``stage_2_train_images/<patientId>.dcm``; also with PNG or JPEG of the same stem. The films of the test stage have no
label and no text, and are not read.

What is kept: the judgement, as labels. A box of the challenge surrounds an opacity, not a part of the body, so it never
becomes a region. The challenge's target is the label Pneumonia: positive where a film has a box. ``patientId`` names a
film, and several belong to one person: RSNA's list of the films' names in ChestX-ray14
(``pneumonia-challenge-dataset-mappings_2018.json``), where it lies beside the tables, joins them. The UIDs in the files
are a converter's and join nothing.

Source: Shih et al., Radiology: Artificial Intelligence 2019;1(1):e180041.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crrg.data.archives.film_forms import choose_forms, repeated_items
from crrg.data.archives.sources import SourceItem
from crrg.data.archives.tables import MAX_TABLE_BYTES, Row, iterate_rows, text_of
from crrg.data.film import may_be_film
from crrg.domain.labels import NEGATIVE, NO_FINDING, POSITIVE, LabelValues
from crrg.domain.source_kind import SourceKind
from crrg.errors import AnnotationError, DataError, DicomError
from crrg.storage import Storage, StoredObject

LABELS_KEY = "stage_2_train_labels.csv"
CLASSES_KEY = "stage_2_detailed_class_info.csv"
FILMS_PREFIX = "stage_2_train_images/"
MAPPING_KEYS = ("pneumonia-challenge-dataset-mappings_2018.json", "mappings.json")
LABEL_SOURCE = "radiologist"

_OPACITY, _OTHER, _NORMAL = "Lung Opacity", "No Lung Opacity / Not Normal", "Normal"
_LABELS_OF_CLASS: dict[str, LabelValues] = {
    # the readers marked opacities that may be pneumonia, without knowing the patient; it is what the target asks for
    _OPACITY: {"Lung Opacity": POSITIVE, "Pneumonia": POSITIVE, NO_FINDING: NEGATIVE},
    # another opacity, of a mass or a collapse, is no opacity to the challenge, but is one to CheXpert
    _OTHER: {"Pneumonia": NEGATIVE, NO_FINDING: NEGATIVE},
    _NORMAL: {"Lung Opacity": NEGATIVE, "Pneumonia": NEGATIVE, NO_FINDING: POSITIVE},
}
_LABELS_WITHOUT_CLASS: dict[str, LabelValues] = {
    "1": _LABELS_OF_CLASS[_OPACITY],
    "0": {"Pneumonia": NEGATIVE},
}


@dataclass
class _Judgement:
    """What the tables say of one film: targets and classes of all its rows, and whether a row has a box."""

    targets: set[str]
    classes: set[str]
    has_box: bool = False


class RsnaSource:
    """Films of the challenge's training stage with their labels."""

    kind = SourceKind.RSNA
    looked_for = "stage_2_train_labels.csv and stage_2_train_images/"
    site = "rsna"

    def __init__(self, storage: Storage) -> None:
        """Open the folder that holds the tables."""
        self.storage = storage

    @staticmethod
    def recognises(_storage: Storage, names: list[str]) -> bool:
        """Return whether the challenge's table of boxes lies there."""
        return LABELS_KEY in names

    def inventory(self) -> list[StoredObject]:
        """Return tables and films of the training stage."""
        tables = (LABELS_KEY, CLASSES_KEY, *MAPPING_KEYS)
        return [
            stored
            for stored in self.storage.list_objects()
            if stored.key in tables or (stored.key.startswith(FILMS_PREFIX) and may_be_film(stored.key))
        ]

    def items(self) -> Iterator[SourceItem]:
        """Yield every film in key order, then labelled films that are not there."""
        objects = {stored.key: stored for stored in self.inventory()}
        judgements = self._judgements(objects)
        people = self._people(objects)
        films, again = choose_forms((stored for key, stored in objects.items() if key.startswith(FILMS_PREFIX)), _stem)
        for name, stored in films.items():
            yield _item(stored, name, judgements.pop(name, None), people.get(name, ""))
        yield from repeated_items(again)
        for name in judgements:
            problem = DicomError("a table names a film that is not there", code="NO_PIXELS.NO_FILE")
            yield SourceItem(name=f"{FILMS_PREFIX}{name}", problem=problem)

    def _judgements(self, objects: Mapping[str, StoredObject]) -> dict[str, _Judgement]:
        judgements: dict[str, _Judgement] = {}
        for key in (LABELS_KEY, CLASSES_KEY):
            for row in iterate_rows(self.storage, key) if key in objects else ():
                found = judgements.setdefault(text_of(row, "patientId"), _Judgement(set(), set()))
                found.targets |= {_target(row)} - {""}
                found.classes |= {text_of(row, "class")} - {""}
                found.has_box |= all(text_of(row, name) for name in ("x", "y", "width", "height"))
        judgements.pop("", None)
        return judgements

    def _people(self, objects: Mapping[str, StoredObject]) -> dict[str, str]:
        """Return the person of each film as ChestX-ray14 numbers them (``00000013_005.png`` is film 5 of person 13)."""
        key = next((key for key in MAPPING_KEYS if key in objects), None)
        if key is None:
            return {}
        if objects[key].size > MAX_TABLE_BYTES:
            raise DataError(f"the list has more than {MAX_TABLE_BYTES} bytes", code="LIMIT.TABLE")
        try:
            entries: list[dict[str, Any]] = json.loads(self.storage.get(key))
            return {entry["subset_img_id"]: str(entry["img_id"]).split("_", 1)[0] for entry in entries}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"the list cannot be read ({type(error).__name__})", code="PARSE.TABLE") from error


def _stem(key: str) -> str:
    return key.rsplit("/", 1)[-1].split(".", 1)[0]


def _target(row: Row) -> str:
    text = text_of(row, "Target")
    return {"0.0": "0", "1.0": "1"}.get(text, text)


def _item(film: StoredObject, name: str, judgement: _Judgement | None, person: str) -> SourceItem:
    labels: LabelValues = {}
    problem: DataError | None = None
    if judgement is not None:
        try:
            labels = _labels(judgement)
        except AnnotationError as error:
            problem = error
    return SourceItem(
        name=film.key,
        film=film,
        patient_id=f"person {person}" if person else name,
        study_id=name,
        instance_id=name,
        labels=labels,
        label_source=LABEL_SOURCE if labels else "",
        problem=problem,
    )


def _labels(judgement: _Judgement) -> LabelValues:
    """Return the labels on which all rows of both tables agree.

    Raises:
        AnnotationError: INTEGRITY.LABELS where they do not.
    """
    targets = judgement.targets | {"1" if name == _OPACITY else "0" for name in judgement.classes}
    is_known = targets <= _LABELS_WITHOUT_CLASS.keys() and judgement.classes <= _LABELS_OF_CLASS.keys()
    is_one = len(targets) == 1 and len(judgement.classes) <= 1
    if not is_known or not is_one or (judgement.has_box and "0" in targets):
        raise AnnotationError("boxes, target and class of the film contradict each other", code="INTEGRITY.LABELS")
    for name in judgement.classes:
        return _LABELS_OF_CLASS[name]
    return _LABELS_WITHOUT_CLASS[targets.pop()]
