"""A drawn film's annotations in the shape of Chest ImaGenome's scene graphs.

``objects`` carry the boxes (``original_*`` in pixels of the film, ``x1`` .. ``y2`` in the 224-pixel padded square),
``attributes`` one entry per region that has a phrase.

Source: Wu et al., Chest ImaGenome, PhysioNet 2021; the fields are those that RGRG reads (Tanida et al., 2023).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crrg.data.phantom.scene import DrawnFinding, Scene, WordedReport
from crrg.domain.boxes import BoxXyxy, Letterbox
from crrg.domain.regions import REGIONS
from crrg.domain.sentences import split_sentences

_PADDED_SIDE = 224

_ATTRIBUTES: dict[str, str] = {
    "widened_mediastinum": "anatomicalfinding|yes|superior mediastinal mass/enlargement",
    "enlarged_heart": "anatomicalfinding|yes|enlarged cardiac silhouette",
    "patchy_opacity": "anatomicalfinding|yes|lung opacity",
    "nodule": "anatomicalfinding|yes|lung lesion",
    "mass": "anatomicalfinding|yes|mass/nodule (not otherwise specified)",
    "interstitial_edema": "anatomicalfinding|yes|pulmonary edema/hazy opacity",
    "alveolar_edema": "anatomicalfinding|yes|pulmonary edema/hazy opacity",
    "lobar_consolidation": "anatomicalfinding|yes|consolidation",
    "pneumonia": "disease|yes|pneumonia",
    "linear_atelectasis": "anatomicalfinding|yes|linear/patchy atelectasis",
    "basal_atelectasis": "anatomicalfinding|yes|atelectasis",
    "apical_pneumothorax": "anatomicalfinding|yes|pneumothorax",
    "pleural_effusion": "anatomicalfinding|yes|pleural effusion",
    "pleural_thickening": "anatomicalfinding|yes|pleural/parenchymal scarring",
    "pleural_plaque": "anatomicalfinding|yes|calcified pleural plaque",
    "rib_fracture": "anatomicalfinding|yes|bone fracture",
    "clavicle_fracture": "anatomicalfinding|yes|bone fracture",
    "endotracheal_tube": "tubesandlines|yes|endotracheal tube",
    "central_line": "tubesandlines|yes|central venous line",
    "pacemaker": "device|yes|cardiac pacer and wires",
    "chest_tube": "tubesandlines|yes|chest tube",
    "sternal_wires": "device|yes|sternotomy wires",
    "enteric_tube": "tubesandlines|yes|enteric tube",
}


def scene_graph(
    scene: Scene,
    report: WordedReport,
    boxes: dict[str, BoxXyxy],
    film_size: tuple[int, int],
    instance_id: str,
    patient_id: str,
    study_id: str,
) -> dict[str, Any]:
    """Return the scene graph of one film as plain values.

    Args:
        scene: What is on the film.
        report: Its report; regions without a phrase get no ``attributes`` entry.
        boxes: Region name to ``box_xyxy`` in pixels of the film.
        film_size: Width and height of the film in pixels.
        instance_id: SOPInstanceUID, the ``image_id``.
        patient_id: PatientID.
        study_id: StudyInstanceUID.
    """
    letterbox = Letterbox(film_size[0], film_size[1], _PADDED_SIDE)
    decade = scene.age_years // 10 * 10
    return {
        "image_id": instance_id,
        "viewpoint": scene.view_position.value,
        "patient_id": patient_id,
        "study_id": study_id,
        "gender": scene.sex,
        "age_decile": f"{decade}-{decade + 10}",
        "reason_for_exam": report.indication,
        "objects": [_object(region, boxes[region], letterbox, instance_id) for region in REGIONS],
        "attributes": [
            _attribute(region, report, scene, instance_id) for region in REGIONS if region in report.phrases
        ],
        "relationships": [],
    }


def _object(region: str, box: BoxXyxy, letterbox: Letterbox, instance_id: str) -> dict[str, Any]:
    padded = [round(float(value), 3) for value in letterbox.to_input(np.array(box))]
    entry: dict[str, Any] = {"object_id": f"{instance_id}_{region}", "bbox_name": region, "name": region, "synsets": []}
    for prefix, (x1, y1, x2, y2) in (("", tuple(padded)), ("original_", tuple(round(v, 3) for v in box))):
        entry |= {f"{prefix}x1": x1, f"{prefix}y1": y1, f"{prefix}x2": x2, f"{prefix}y2": y2}
        entry |= {f"{prefix}width": round(x2 - x1, 3), f"{prefix}height": round(y2 - y1, 3)}
    return entry


def _attribute(region: str, report: WordedReport, scene: Scene, instance_id: str) -> dict[str, Any]:
    phrases = split_sentences(report.phrases[region])
    present = [finding for finding in scene.findings if region in finding.regions]
    names = [*dict.fromkeys(_ATTRIBUTES[finding.kind] for finding in present)]
    names.append("nlp|yes|abnormal" if region in report.abnormal_regions else "nlp|yes|normal")
    count = len(phrases)
    return {
        region: True,
        "bbox_name": region,
        "name": region,
        "synsets": [],
        "object_id": f"{instance_id}_{region}",
        "phrases": phrases,
        "phrase_IDs": [f"{instance_id}_{region}|{i}" for i in range(count)],
        "sections": ["finalreport"] * count,
        "attributes": [names] * count,
        "attributes_ids": [[] for _ in range(count)],
        "comparison_cues": [[] for _ in range(count)],
        "temporal_cues": [[] for _ in range(count)],
        "severity_cues": [_severity_cues(present)] * count,
        "texture_cues": [[] for _ in range(count)],
    }


def _severity_cues(findings: list[DrawnFinding]) -> list[str]:
    return [f"severity|yes|{finding.grade}" for finding in findings if finding.label != "Support Devices"]
