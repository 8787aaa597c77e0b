"""Which studies a drawn cohort holds: patients, projections and findings that occur together as they do in a hospital.

A study belongs to a background (heart failure, infection, injury, surgery, tumour, old age) that makes some findings
likely together. Projection, age and sex are drawn independently of the findings, so that no label can be told from
them. Everything depends on ``(seed, index)`` alone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from crrg.data.phantom.kinds import KINDS, ZONE_NAMES, Zone, drawn_finding
from crrg.data.phantom.scene import DrawnFinding, Scene, Side
from crrg.domain.labels import FINDINGS
from crrg.domain.study import ViewPosition

SCENE_STREAM, BLOCK_STREAM = 1, 2

STUDIES_PER_BLOCK = 4
"""Studies with indices 4b .. 4b+3 share nothing with other blocks; a patient's two studies lie in one block."""

NORMAL_SHARE = 0.36
REPEAT_SHARE = 0.5
AP_SHARE = 0.42

_BACKGROUNDS: dict[str, tuple[float, dict[str, float]]] = {
    "heart failure": (
        0.24,
        {"Cardiomegaly": 0.72, "Edema": 0.72, "Pleural Effusion": 0.55, "Atelectasis": 0.2, "Support Devices": 0.4},
    ),
    "infection": (
        0.24,
        {"Pneumonia": 0.6, "Consolidation": 0.45, "Lung Opacity": 0.4, "Pleural Effusion": 0.25,
         "Support Devices": 0.2},
    ),
    "injury": (0.14, {"Fracture": 0.75, "Pneumothorax": 0.5, "Pleural Effusion": 0.2, "Support Devices": 0.3}),
    "surgery": (
        0.16,
        {"Support Devices": 0.85, "Atelectasis": 0.65, "Pleural Effusion": 0.4, "Pneumothorax": 0.3,
         "Enlarged Cardiomediastinum": 0.25},
    ),
    "tumour": (
        0.12,
        {"Lung Lesion": 0.85, "Pleural Effusion": 0.3, "Enlarged Cardiomediastinum": 0.3, "Lung Opacity": 0.25},
    ),
    "old age": (
        0.10,
        {"Pleural Other": 0.6, "Enlarged Cardiomediastinum": 0.45, "Cardiomegaly": 0.3, "Fracture": 0.2},
    ),
}  # fmt: skip
_ANYWHERE: dict[str, float] = {
    "Lung Opacity": 0.14,
    "Lung Lesion": 0.07,
    "Atelectasis": 0.08,
    "Pleural Other": 0.08,
    "Enlarged Cardiomediastinum": 0.05,
    "Support Devices": 0.05,
    "Fracture": 0.04,
    "Pneumothorax": 0.04,
    "Consolidation": 0.03,
    "Edema": 0.02,
    "Cardiomegaly": 0.06,
    "Pleural Effusion": 0.05,
    "Pneumonia": 0.03,
}
_GRADE_SHARES = (0.4, 0.35, 0.25)
_KIND_SHARES: dict[str, tuple[float, ...]] = {
    "Lung Lesion": (0.55, 0.45),
    "Edema": (0.55, 0.45),
    "Atelectasis": (0.45, 0.55),
    "Pleural Other": (0.5, 0.5),
    "Fracture": (0.78, 0.22),
    "Support Devices": (0.18, 0.26, 0.16, 0.14, 0.14, 0.12),
}
_WITH_PARTNER: dict[str, tuple[str, float]] = {"endotracheal_tube": ("enteric_tube", 0.6)}
_AIRSPACE = ("Consolidation", "Pneumonia")


def sample_scene(seed: int, index: int) -> Scene:
    """Return study ``index`` of the cohort with this seed.

    Args:
        seed: Seed of the cohort, 0 or more.
        index: Number of the study, 0 or more.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, SCENE_STREAM, index]))
    view_position = ViewPosition.AP if rng.random() < AP_SHARE else ViewPosition.PA
    patient_number = patient_of(seed, index)
    person = np.random.default_rng(np.random.SeedSequence([seed, BLOCK_STREAM, patient_number, 1]))
    age_years = int(np.clip(person.normal(60, 17), 18, 95))
    sex: Literal["F", "M"] = "F" if person.random() < 0.47 else "M"
    return Scene(index, patient_number, view_position, age_years, sex, sample_findings(rng))


def patient_of(seed: int, index: int) -> int:
    """Return the number of the patient of a study; in half of the blocks the last two studies are one patient's."""
    block, position = divmod(index, STUDIES_PER_BLOCK)
    rng = np.random.default_rng(np.random.SeedSequence([seed, BLOCK_STREAM, block]))
    is_repeat = rng.random() < REPEAT_SHARE
    return index - 1 if is_repeat and position == STUDIES_PER_BLOCK - 1 else index


def sample_findings(rng: np.random.Generator) -> tuple[DrawnFinding, ...]:
    """Return what one study shows; empty for a normal one."""
    if rng.random() < NORMAL_SHARE:
        return ()
    names = list(_BACKGROUNDS)
    background = _BACKGROUNDS[names[rng.choice(len(names), p=[_BACKGROUNDS[name][0] for name in names])]][1]
    present = [
        label
        for label in FINDINGS
        if rng.random() < 1 - (1 - background.get(label, 0.0)) * (1 - _ANYWHERE.get(label, 0.0))
    ]
    findings: list[DrawnFinding] = []
    for label in sorted(present, key=_order):
        findings += _sample_label(label, findings, rng)
    return tuple(sorted(findings, key=lambda finding: FINDINGS.index(finding.label)))


def _order(label: str) -> int:
    # airspace disease first: an accompanying opacity joins its place
    return -1 if label in _AIRSPACE else FINDINGS.index(label)


def _sample_label(label: str, others: list[DrawnFinding], rng: np.random.Generator) -> list[DrawnFinding]:
    shares = _KIND_SHARES.get(label, (1.0,))
    kind = KINDS[label][rng.choice(len(shares), p=shares)]
    side: Side = "right" if rng.random() < 0.54 else "left"
    zone: Zone = ZONE_NAMES[rng.choice(3, p=(0.28, 0.27, 0.45))]
    if kind == "pleural_thickening":
        zone = "upper" if rng.random() < 0.5 else "lower"
    if label == "Lung Opacity":
        partners = [other for other in others if other.label in _AIRSPACE]
        if partners and rng.random() < 0.6:
            side, zone = partners[0].side, _zone_of(partners[0])
    if label == "Pneumonia":
        partners = [other for other in others if other.label == "Consolidation"]
        if partners and rng.random() < 0.5:
            side, zone = partners[0].side, _zone_of(partners[0])
    found = [drawn_finding(kind, side, sample_severity(rng), zone)]
    both = {"pleural_effusion": 0.35, "basal_atelectasis": 0.3, "linear_atelectasis": 0.2, "pleural_plaque": 0.5}
    if rng.random() < both.get(kind, 0.0):
        found.append(drawn_finding(kind, "left" if side == "right" else "right", sample_severity(rng), zone))
    if label == "Support Devices":
        found += _more_devices(kind, side, rng)
    return found


def _more_devices(kind: str, side: Side, rng: np.random.Generator) -> list[DrawnFinding]:
    partner, share = _WITH_PARTNER.get(kind, ("central_line", 0.25))
    if partner == kind or rng.random() >= share:
        return []
    return [drawn_finding(partner, side, sample_severity(rng))]


def _zone_of(finding: DrawnFinding) -> Zone:
    return next((zone for zone in ZONE_NAMES if zone in finding.regions[0]), "lower")


def sample_severity(rng: np.random.Generator) -> float:
    """Return a severity, 0.05..1; four in ten are mild (below 1/3)."""
    grade = int(rng.choice(3, p=_GRADE_SHARES))
    low, high = ((0.05, 0.33), (0.34, 0.66), (0.67, 1.0))[grade]
    return round(float(rng.uniform(low, high)), 3)
