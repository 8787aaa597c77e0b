"""The kinds of findings that can be drawn, and the regions in which each is seen.

The sampler and the report-driven scenes build their findings here, so that painter and grammar meet only combinations
that exist.
"""

from __future__ import annotations

from typing import Literal

from crrg.data.phantom.scene import DrawnFinding, Side

Zone = Literal["upper", "mid", "lower"]
ZONE_NAMES: tuple[Zone, Zone, Zone] = ("upper", "mid", "lower")

KINDS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": ("widened_mediastinum",),
    "Cardiomegaly": ("enlarged_heart",),
    "Lung Opacity": ("patchy_opacity",),
    "Lung Lesion": ("nodule", "mass"),
    "Edema": ("interstitial_edema", "alveolar_edema"),
    "Consolidation": ("lobar_consolidation",),
    "Pneumonia": ("pneumonia",),
    "Atelectasis": ("linear_atelectasis", "basal_atelectasis"),
    "Pneumothorax": ("apical_pneumothorax",),
    "Pleural Effusion": ("pleural_effusion",),
    "Pleural Other": ("pleural_thickening", "pleural_plaque"),
    "Fracture": ("rib_fracture", "clavicle_fracture"),
    "Support Devices": (
        "endotracheal_tube",
        "central_line",
        "pacemaker",
        "chest_tube",
        "sternal_wires",
        "enteric_tube",
    ),
}
"""Label to its kinds."""

_MIDLINE: dict[str, tuple[str, ...]] = {
    "widened_mediastinum": ("upper mediastinum", "mediastinum"),
    "enlarged_heart": ("cardiac silhouette",),
    "endotracheal_tube": ("trachea", "carina"),
    "sternal_wires": ("mediastinum",),
    "enteric_tube": ("abdomen", "mediastinum"),
}
_BILATERAL = ("interstitial_edema", "alveolar_edema")
_LABEL_OF_KIND = {kind: label for label, kinds in KINDS.items() for kind in kinds}


def drawn_finding(kind: str, side: Side, severity: float, zone: Zone = "lower") -> DrawnFinding:
    """Return a finding of a kind with the regions where it is seen.

    Args:
        kind: One of the kinds in ``KINDS``.
        side: Patient's side; midline and bilateral kinds ignore it. Elsewhere ``right`` or ``left``.
        severity: 0..1.
        zone: Where in the lung, for kinds that can lie anywhere.
    """
    label = _LABEL_OF_KIND[kind]
    if kind in _MIDLINE:
        return DrawnFinding(label, kind, "midline", _MIDLINE[kind], severity)
    if kind in _BILATERAL:
        regions = ("right hilar structures", "left hilar structures", "right lung", "left lung")
        return DrawnFinding(label, kind, "bilateral", regions, severity)
    return DrawnFinding(label, kind, side, _sided_regions(kind, side, severity, zone), severity)


def _sided_regions(kind: str, side: Side, severity: float, zone: Zone) -> tuple[str, ...]:
    if kind == "central_line":
        return ("svc", "cavoatrial junction", f"{side} clavicle")
    if kind == "pacemaker":
        return (f"{side} upper lung zone", "right atrium")
    fixed: dict[str, tuple[str, ...]] = {
        "linear_atelectasis": ("lower lung zone",),
        "basal_atelectasis": ("lower lung zone", "hemidiaphragm"),
        "apical_pneumothorax": ("apical zone", "upper lung zone"),
        "pleural_effusion": ("costophrenic angle", "hemidiaphragm"),
        "pleural_thickening": ("apical zone",) if zone == "upper" else ("costophrenic angle",),
        "pleural_plaque": ("mid lung zone",),
        "clavicle_fracture": ("clavicle",),
        "chest_tube": ("lung", "lower lung zone"),
    }
    names = fixed.get(kind, (f"{zone} lung zone",))
    if kind == "pleural_effusion" and severity >= 2 / 3:
        names = ("costophrenic angle", "lower lung zone", "hemidiaphragm")
    return tuple(f"{side} {name}" for name in names)
