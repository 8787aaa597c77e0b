"""Draw pictures to fit real reports: an Open-i study's MeSH codes become drawn findings, its text stays as it is.

The picture shows what can be drawn of the codes; a code without a drawing (a granuloma, scoliosis, emphysema) leaves
the picture without it and the label "No Finding" open. The text is carried unchanged and never logged.

Source: Demner-Fushman et al., JAMIA 2016 (the codes); one study per patient there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Literal

import numpy as np

from crrg.data.archives.mesh_codes import NORMAL, NOT_INDEXED, TECHNICAL, read_codes
from crrg.data.phantom.cohort import DrawnStudy
from crrg.data.phantom.kinds import ZONE_NAMES, Zone, drawn_finding
from crrg.data.phantom.sampler import AP_SHARE
from crrg.data.phantom.scene import DrawnFinding, Scene, Side, WordedReport
from crrg.domain.labels import FINDINGS, NO_FINDING, LabelValues
from crrg.domain.study import ViewPosition
from crrg.errors import ReportError

OPENI_STREAM = 41
SOURCE = "openi"
_COLUMNS = ("uid", "indication", "findings", "impression", "mesh_major")
_NO_DISEASE = frozenset({NORMAL, TECHNICAL})

_MILD = frozenset({"mild", "small", "borderline", "blunted"})
_SEVERE = frozenset({"severe", "large"})
_UPPER = frozenset({"upper lobe", "apex"})
_MID = frozenset({"middle lobe", "lingula", "hilum"})
_LOWER = frozenset({"base", "lower lobe", "retrocardiac"})

Qualifiers = frozenset[str]


def read_openi_studies(table: bytes, num_studies: int, seed: int) -> list[DrawnStudy]:
    """Return up to ``num_studies`` studies of an Open-i report table, chosen by the seed, in the table's order.

    Studies without text or without codes are passed over. A study's number in the cohort is its ``uid``.

    Args:
        table: The CSV file's bytes, UTF-8.
        num_studies: How many studies at most.
        seed: Seed of the cohort: which studies, and everything the codes leave open.

    Raises:
        ReportError: The table lacks a column that is needed, or holds a ``uid`` that is no number.
    """
    reader = csv.DictReader(io.StringIO(table.decode("utf-8-sig"), newline=""))
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ReportError(f"table lacks {', '.join(missing)}; give the Open-i table", "reports", code="REPORT.COLUMNS")
    rows = [row for row in reader if _is_usable(row)]
    order = np.random.default_rng(np.random.SeedSequence([seed, OPENI_STREAM])).permutation(len(rows))
    return [_study(rows[i], seed) for i in sorted(order[: max(0, num_studies)].tolist())]


def findings_of_codes(mesh_major: str, rng: np.random.Generator) -> tuple[tuple[DrawnFinding, ...], bool]:
    """Return what can be drawn of a study's codes, and whether the codes say more than is drawn.

    Args:
        mesh_major: Codes with ``;`` between them and ``/`` between a heading and its qualifiers.
        rng: Decides side, zone and severity where the codes are silent.
    """
    findings: list[DrawnFinding] = []
    says_more = False
    for code in read_codes(mesh_major):
        drawn = _draw_code(code.heading, code.qualifiers, rng)
        findings += drawn
        says_more |= not drawn and code.heading not in _NO_DISEASE
    unique = {(finding.kind, finding.side, finding.regions): finding for finding in reversed(findings)}
    ordered = sorted(unique.values(), key=lambda finding: (FINDINGS.index(finding.label), finding.kind, finding.side))
    return tuple(ordered), says_more


def _is_usable(row: dict[str, str]) -> bool:
    has_text = bool((row["findings"] or "").strip() or (row["impression"] or "").strip())
    codes = (row["mesh_major"] or "").strip()
    return has_text and bool(codes) and NOT_INDEXED not in codes


def _study(row: dict[str, str], seed: int) -> DrawnStudy:
    if not row["uid"].isdigit():
        raise ReportError("uid is not a number; give the Open-i table", "reports", code="REPORT.COLUMNS")
    index = int(row["uid"])
    rng = np.random.default_rng(np.random.SeedSequence([seed, OPENI_STREAM, index]))
    view_position = ViewPosition.AP if rng.random() < AP_SHARE / 3 else ViewPosition.PA
    age_years = int(np.clip(rng.normal(55, 18), 18, 95))
    sex: Literal["F", "M"] = "F" if rng.random() < 0.5 else "M"
    findings, says_more = findings_of_codes(row["mesh_major"], rng)
    scene = Scene(index, index, view_position, age_years, sex, findings)
    regions = frozenset(region for finding in findings for region in finding.regions)
    report = WordedReport(row["indication"] or "", row["findings"] or "", row["impression"] or "", {}, regions)
    return DrawnStudy(scene, report, _labels(scene, says_more), SOURCE)


def _labels(scene: Scene, says_more: bool) -> LabelValues:
    labels: dict[str, int | None] = dict(scene.labels)
    if says_more and labels[NO_FINDING] == 1:
        labels[NO_FINDING] = None
    return labels


def _draw_code(heading: str, qualifiers: Qualifiers, rng: np.random.Generator) -> list[DrawnFinding]:
    kinds = _KINDS_OF_HEADING[heading](qualifiers) if heading in _KINDS_OF_HEADING else ()
    severity, zone = _severity(qualifiers, rng), _zone(qualifiers, rng)
    sides: tuple[Side, ...] = ("right",) if rng.random() < 0.5 else ("left",)
    if "bilateral" in qualifiers or {"left", "right"} <= qualifiers:
        sides = ("right", "left")
    elif qualifiers & {"left", "right"}:
        sides = ("left",) if "left" in qualifiers else ("right",)
    found = [drawn_finding(kind, side, severity, zone) for kind in kinds for side in sides]
    return list(dict.fromkeys(found))


def _severity(qualifiers: Qualifiers, rng: np.random.Generator) -> float:
    low, high = 0.25, 0.75
    if qualifiers & _MILD:
        low, high = 0.08, 0.33
    elif qualifiers & _SEVERE:
        low, high = 0.68, 1.0
    elif "moderate" in qualifiers:
        low, high = 0.34, 0.66
    return round(float(rng.uniform(low, high)), 3)


def _zone(qualifiers: Qualifiers, rng: np.random.Generator) -> Zone:
    for zone, words in zip(ZONE_NAMES, (_UPPER, _MID, _LOWER), strict=True):
        if qualifiers & words:
            return zone
    return ZONE_NAMES[int(rng.integers(3))]


def _always(*kinds: str) -> Callable[[Qualifiers], tuple[str, ...]]:
    return lambda _: kinds


def _when(words: set[str], *kinds: str) -> Callable[[Qualifiers], tuple[str, ...]]:
    return lambda qualifiers: kinds if qualifiers & words else ()


def _opacity(qualifiers: Qualifiers) -> tuple[str, ...]:
    return ("patchy_opacity",) if "lung" in qualifiers else ()


def _atelectasis(qualifiers: Qualifiers) -> tuple[str, ...]:
    return ("basal_atelectasis",) if qualifiers & (_LOWER | _SEVERE) else ("linear_atelectasis",)


def _edema(qualifiers: Qualifiers) -> tuple[str, ...]:
    return ("interstitial_edema",) if qualifiers & (_MILD | {"interstitial"}) else ("alveolar_edema",)


def _fracture(qualifiers: Qualifiers) -> tuple[str, ...]:
    return ("rib_fracture",) if "ribs" in qualifiers else ("clavicle_fracture",) if "clavicle" in qualifiers else ()


def _implant(qualifiers: Qualifiers) -> tuple[str, ...]:
    if qualifiers & {"aortic valve", "mitral valve", "coronary vessels"}:
        return ("sternal_wires",)
    return ("pacemaker",) if qualifiers <= {"left", "right", "thorax", "heart"} else ()


def _tube(qualifiers: Qualifiers) -> tuple[str, ...]:
    if "abdomen" in qualifiers:
        return ("enteric_tube",)
    return ("chest_tube",) if "thorax" in qualifiers else ("endotracheal_tube",)


_KINDS_OF_HEADING: dict[str, Callable[[Qualifiers], tuple[str, ...]]] = {
    "Cardiomegaly": _always("enlarged_heart"),
    "Cardiac Shadow": _when({"enlarged"}, "enlarged_heart"),
    "Heart": _when({"enlarged"}, "enlarged_heart"),
    "Heart Failure": _always("interstitial_edema"),
    "Mediastinum": _when({"prominent", "enlarged"}, "widened_mediastinum"),
    "Aorta": _when({"enlarged"}, "widened_mediastinum"),
    "Aorta, Thoracic": _when({"enlarged"}, "widened_mediastinum"),
    "Aortic Aneurysm": _always("widened_mediastinum"),
    "Opacity": _opacity,
    "Density": _opacity,
    "Infiltrate": _opacity,
    "Airspace Disease": _opacity,
    "Nodule": _always("nodule"),
    "Mass": _always("mass"),
    "Pulmonary Edema": _edema,
    "Pulmonary Congestion": _always("interstitial_edema"),
    "Consolidation": _always("lobar_consolidation"),
    "Pneumonia": _always("pneumonia"),
    "Pulmonary Atelectasis": _atelectasis,
    "Volume Loss": _always("basal_atelectasis"),
    "Pneumothorax": _always("apical_pneumothorax"),
    "Hydropneumothorax": _always("apical_pneumothorax", "pleural_effusion"),
    "Pleural Effusion": _always("pleural_effusion"),
    "Hemothorax": _always("pleural_effusion"),
    "Costophrenic Angle": _when({"blunted", "obscured"}, "pleural_effusion"),
    "Thickening": _when({"pleura"}, "pleural_thickening"),
    "Fractures, Bone": _fracture,
    "Catheters, Indwelling": lambda qualifiers: () if "abdomen" in qualifiers else ("central_line",),
    "Implanted Medical Device": _implant,
    "Medical Device": _implant,
    "Tube, Inserted": _tube,
    "Surgical Instruments": _when({"mediastinum"}, "sternal_wires"),
}
"""Heading to the kinds that its qualifiers make; what is not here is not drawn."""
