"""Small copies of the published layout of MIMIC-CXR and Chest ImaGenome: drawn films, invented ids and reports."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from crrg.data.archives.mimic_cxr import MimicCxrSource
from crrg.storage import Storage
from tests.support.dicom_builder import build_dicom, gradient
from tests.support.drawn_archives import write_picture

METADATA_COLUMNS = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
LABEL_COLUMNS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
WIDTH, HEIGHT = 50, 40
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___-year-old with cough.

 COMPARISON:  None.

 FINDINGS:

 The lungs are clear. The heart is of normal size.

 IMPRESSION:

 No acute finding.
"""


def instance(number: int) -> str:
    """Return an invented ``dicom_id`` of the published form."""
    return f"{number:08x}-00000000-00000000-00000000-0000000f"


def folder_of(patient: str, study: str) -> str:
    """Return the folder of a study: ``files/p19/p19000001/s59000001``."""
    return f"files/p{patient[:2]}/p{patient}/s{study}"


class MimicTree:
    """A root that is filled piece by piece."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._shade = 0

    def film(self, patient: str, study: str, name: str, form: str = "jpg", **tags: Any) -> Path:
        """Write a drawn film; each is unlike the others."""
        self._shade += 1
        path = self.root / folder_of(patient, study) / f"{name}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "dcm":
            path.write_bytes(build_dicom(gradient(HEIGHT, WIDTH, 4000 - 40 * self._shade), **tags))
        else:
            write_picture(path, self._shade, HEIGHT, WIDTH)
        return path

    def report(self, patient: str, study: str, text: str = REPORT, under: str = "") -> Path:
        """Write a report beside its study's folder, or in the same place under another folder."""
        path = self.root / under / f"{folder_of(patient, study)}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    def table(self, name: str, columns: tuple[str, ...], *rows: tuple[object, ...], packed: bool = True) -> Path:
        """Write a table, packed as published or plain."""
        lines = [",".join(columns), *(",".join(map(str, row)) for row in rows), ""]
        data = "\n".join(lines).encode()
        path = self.root / (f"{name}.csv.gz" if packed else f"{name}.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data) if packed else data)
        return path

    def metadata(self, *rows: tuple[str, str, str, str]) -> Path:
        """Write the metadata of films: dicom_id, patient, study, view."""
        full = [
            (name, patient, study, "CHEST (PA AND LAT)", view, HEIGHT, WIDTH, 21800506, "213014.531", "", "", "")
            for name, patient, study, view in rows
        ]
        return self.table("mimic-cxr-2.0.0-metadata", METADATA_COLUMNS, *full)

    def splits(self, *rows: tuple[str, str, str, str]) -> Path:
        """Write the published split: dicom_id, study, patient, split."""
        return self.table("mimic-cxr-2.0.0-split", ("dicom_id", "study_id", "subject_id", "split"), *rows)

    def labels(self, table: str, *rows: tuple[str, str, dict[str, object]]) -> Path:
        """Write a table of labels: patient, study, cells."""
        full = [(patient, study, *(cells.get(name, "") for name in LABEL_COLUMNS)) for patient, study, cells in rows]
        return self.table(f"mimic-cxr-2.0.0-{table}", ("subject_id", "study_id", *LABEL_COLUMNS), *full)


class ImagenomeTree(MimicTree):
    """The same with annotations in ``silver_dataset``."""

    def silver_split(self, name: str, *rows: tuple[str, str, str, str]) -> Path:
        """Write a published split: dicom_id, patient, study, view; the first column has no name."""
        full = [
            (number, patient, study, film, f"{folder_of(patient, study)}/{film}.dcm", view)
            for number, (film, patient, study, view) in enumerate(rows)
        ]
        columns = ("", "subject_id", "study_id", "dicom_id", "path", "ViewPosition")
        return self.table(f"silver_dataset/splits/{name}", columns, *full, packed=False)

    def avoid(self, *names: str) -> Path:
        """Write the list of films to avoid."""
        rows = [(number, "19000009", name) for number, name in enumerate(names)]
        return self.table("silver_dataset/splits/images_to_avoid", ("", "patient_id", "dicom_id"), *rows, packed=False)

    def graph(self, name: str, graph: dict[str, Any] | bytes) -> Path:
        """Write a scene graph, or any bytes in its place."""
        path = self.root / "silver_dataset" / "scene_graph" / f"{name}_SceneGraph.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(graph if isinstance(graph, bytes) else json.dumps(graph).encode())
        return path


def scene_object(region: str, box: tuple[float, float, float, float], name: str = "") -> dict[str, Any]:
    """Return an entry of ``objects``: the small square's coordinates and the film's own."""
    entry: dict[str, Any] = {"object_id": f"{name}_{region}", "bbox_name": region, "name": region.title()}
    for prefix, scale in (("", 4.48), ("original_", 1.0)):
        x1, y1, x2, y2 = (value * scale for value in box)
        entry |= {f"{prefix}x1": x1, f"{prefix}y1": y1, f"{prefix}x2": x2, f"{prefix}y2": y2}
        entry |= {f"{prefix}width": x2 - x1, f"{prefix}height": y2 - y1}
    return entry


def scene_attribute(region: str, *phrases: tuple[str, list[str]], first: int = 1) -> dict[str, Any]:
    """Return an entry of ``attributes``: phrases with their attribute names, numbered on from ``first``."""
    return {
        region: True,
        "bbox_name": region,
        "name": region.title(),
        "synsets": [],
        "object_id": f"_{region}",
        "phrases": [phrase for phrase, _ in phrases],
        "phrase_IDs": [f"59000001|{first + number}" for number in range(len(phrases))],
        "sections": ["finalreport"] * len(phrases),
        "attributes": [names for _, names in phrases],
        "comparison_cues": [[] for _ in phrases],
    }


def scene_graph_of(name: str, objects: list[dict[str, Any]], attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a scene graph."""
    return {
        "image_id": name, "viewpoint": "AP", "patient_id": 19000001, "study_id": 59000001, "gender": "F",
        "age_decile": "50-60", "reason_for_exam": "Cough.", "StudyOrder": 1, "StudyDateTime": "2180-05-06 21:30:14",
        "objects": objects, "attributes": attributes, "relationships": [],
    }  # fmt: skip


P1, P2, P3 = "19000001", "19000002", "19000003"
S1, S2, S3 = "59000001", "59000002", "59000003"
A, B, C = (instance(number) for number in (1, 2, 3))


def small_tree(folder: Path) -> MimicTree:
    """One patient with two films of a study, another with one, all tables there."""
    tree = MimicTree(folder)
    tree.film(P1, S1, A)
    tree.film(P1, S1, B)
    tree.film(P2, S2, C)
    tree.report(P1, S1)
    tree.report(P2, S2)
    tree.metadata((A, P1, S1, "PA"), (B, P1, S1, "LATERAL"), (C, P2, S2, "AP"))
    tree.splits((A, S1, P1, "train"), (B, S1, P1, "train"), (C, S2, P2, "validate"))
    tree.labels("chexpert", (P1, S1, {"No Finding": "1.0"}), (P2, S2, {"Edema": "-1.0", "Pneumothorax": "0.0"}))
    return tree


def source_of(tree: MimicTree) -> MimicCxrSource:
    return MimicCxrSource(Storage(str(tree.root)))


def film_key(patient: str, study: str, name: str, form: str = "jpg") -> str:
    return f"{folder_of(patient, study)}/{name}.{form}"


def item_of(tree: MimicTree, name: str):
    found = [item for item in source_of(tree).items() if item.instance_id == name]
    assert len(found) == 1
    return found[0]


def codes(tree: MimicTree) -> list[str]:
    return sorted(item.problem.code for item in source_of(tree).items() if item.problem)
