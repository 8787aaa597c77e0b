"""Chest ImaGenome as an archive: the films and reports of MIMIC-CXR with boxes and phrases per region.

Obtain: PhysioNet (credentialed), both collections under one root, in any folders. Found anywhere: scene graphs
``<dicom_id>_SceneGraph.json`` loose or in ``scene_graph.zip``, ``splits/train.csv``, ``valid.csv``, ``test.csv`` and
``images_to_avoid.csv``. Films without annotation (lateral ones above all) are kept as MIMIC-CXR has them, in the split
of their patient here.

Refused are films to avoid (they belong to the gold set), films that a split lists and that have no scene graph (failed
exposures: the published code names 23), and films whose scene graph speaks of another one.

Source: Wu et al., Chest ImaGenome, PhysioNet 2021.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from crrg.data.archives.big_tables import read_frame
from crrg.data.archives.members import Members
from crrg.data.archives.mimic_cxr import SITE, MimicCxrSource
from crrg.data.archives.mimic_tables import FilmFacts, splits_by_patient
from crrg.data.archives.scene_graphs import read_scene_graph
from crrg.data.archives.sources import SourceItem
from crrg.data.map_ahead import map_ahead
from crrg.data.reports.sections import Mode
from crrg.data.view_words import view_of_words
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import Split
from crrg.errors import DataError, DicomError, IdentityError, ImageError
from crrg.storage import Storage, StoredObject

MAX_SCENE_GRAPH_BYTES = 8 * 2**20
_GRAPH = re.compile(r"(?:^|/)(?P<name>[^/]+)_SceneGraph\.json$")
_GRAPHS_ZIP = re.compile(r"(?:^|/)scene_graph\.zip$")
_SPLIT_TABLE = re.compile(r"(?:^|/)splits/(?P<name>train|valid|test)\.csv(?:\.gz)?$")
_AVOID_TABLE = re.compile(r"(?:^|/)splits/images_to_avoid\.csv(?:\.gz)?$")
_SPLITS = {"train": Split.TRAIN, "valid": Split.VALIDATION, "test": Split.TEST}


class ChestImagenomeSource:
    """Films of MIMIC-CXR with the silver annotations."""

    kind = SourceKind.CHEST_IMAGENOME
    looked_for = "films like p10/p10000032/s50414267/<dicom_id>.jpg with scene graphs"
    site = SITE

    def __init__(self, storage: Storage) -> None:
        """Open the root under which both collections lie."""
        self.storage = storage
        self._films = MimicCxrSource(storage)

    @property
    def section_mode(self) -> Mode:
        """How its reports are cut."""
        return self._films.section_mode

    @section_mode.setter
    def section_mode(self, mode: Mode) -> None:
        self._films.section_mode = mode

    @staticmethod
    def recognises(_storage: Storage, names: list[str]) -> bool:
        """Return whether the annotations lie there; whether films do, too, is seen when they are read."""
        return "silver_dataset" in names or any(name.startswith("chest-imagenome") for name in names)

    def inventory(self) -> list[StoredObject]:
        """Return films, reports, scene graphs and the tables of both collections."""
        patterns = (_GRAPH, _GRAPHS_ZIP, _SPLIT_TABLE, _AVOID_TABLE)
        found = [stored for stored in self._films.objects if any(pattern.search(stored.key) for pattern in patterns)]
        return sorted([*self._films.inventory(), *found], key=lambda stored: stored.key)

    def items(self) -> Iterator[SourceItem]:
        """Yield the inputs of MIMIC-CXR with their annotations, then annotations whose film is not there."""
        annotations = self._annotations()
        known: set[str] = set()
        for item in map_ahead(partial(_annotated, annotations), self._films.items()):
            if item.instance_id:
                known.add(item.instance_id)
            yield item
        problem = DicomError("an annotation names a film that is not there", code="NO_PIXELS.NO_FILE")
        for name in sorted(({*annotations.listed, *annotations.graphs.paths()}) - known):
            yield SourceItem(name=name, instance_id=name, problem=problem)

    def _annotations(self) -> _Annotations:
        objects = self._films.objects
        packed = [stored for stored in objects if _GRAPHS_ZIP.search(stored.key)]
        listed: dict[str, FilmFacts] = {}
        rows: list[tuple[str | None, str | None]] = []
        avoided: set[str] = set()
        for stored in objects:
            match = _SPLIT_TABLE.search(stored.key)
            if match:
                columns = ("dicom_id", "subject_id", "study_id")
                frame = read_frame(self.storage, stored.key, columns, ("ViewPosition",))
                rows += [(patient, match.group("name")) for patient in frame["subject_id"]]
                listed.update(
                    (name, FilmFacts(patient or "", study or "", view_of_words(view or ""), None))
                    for name, patient, study, view in frame.iter_rows()
                    if name
                )
            elif _AVOID_TABLE.search(stored.key):
                avoided.update(filter(None, read_frame(self.storage, stored.key, ("dicom_id",))["dicom_id"]))
        return _Annotations(
            graphs=Members(self.storage, _GRAPH, objects, packed, MAX_SCENE_GRAPH_BYTES),
            listed=listed,
            split_of_patient=splits_by_patient(rows, _SPLITS),
            avoided=frozenset(avoided),
        )


@dataclass(frozen=True)
class _Annotations:
    """What lies beside the films.

    Attributes:
        graphs: Scene graphs by ``dicom_id``, read one at a time.
        listed: Facts of the films in the published splits by ``dicom_id``.
        split_of_patient: Published split by ``subject_id``.
        avoided: Films of the gold set.
    """

    graphs: Members
    listed: Mapping[str, FilmFacts]
    split_of_patient: Mapping[str, Split]
    avoided: frozenset[str]


def _annotated(annotations: _Annotations, item: SourceItem) -> SourceItem:
    """Return an input with the regions of its film, or with the reason why it must not be used."""
    item = replace(item, split=annotations.split_of_patient.get(item.patient_id, item.split))
    if item.film is None or item.problem is not None:
        return item
    try:
        return _with_regions(annotations, item)
    except DataError as error:
        return replace(item, problem=error)


def _with_regions(annotations: _Annotations, item: SourceItem) -> SourceItem:
    name = item.instance_id
    if name in annotations.avoided:
        raise ImageError("the archive lists the film among those to avoid", code="QUALITY.AVOIDED")
    facts = annotations.listed.get(name)
    if facts is not None and (facts.patient_id, facts.study_id) != (item.patient_id, item.study_id):
        raise IdentityError("path and published split name different studies", code="IDENTITY.CONFLICT")
    if name not in annotations.graphs:
        if facts is not None:
            raise ImageError("a split lists the film, but it has no scene graph: a failed one", code="QUALITY.FAULTY")
        return item
    graph = read_scene_graph(annotations.graphs.read(name))
    if graph.image_id and graph.image_id.removesuffix(".dcm") != name:
        raise IdentityError("the scene graph speaks of another film", code="IDENTITY.CONFLICT")
    view = item.view_position or (facts.view_position if facts else None) or view_of_words(graph.viewpoint)
    return replace(item, regions=graph.regions, boxes_may_exceed=True, view_position=view)
