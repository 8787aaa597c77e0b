"""Codes by which other systems know the 14 observations and the 29 regions.

SNOMED CT is used where a concept says exactly what we mean; everything else is coded in a scheme of our own
(``99CRRG``), so that no receiver reads more into a draft than it says. Codes are data; who writes them into which
document is not known here.

Source: SNOMED CT; DICOM PS3.16 CID 6012 and annex G.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS

SNOMED = "SCT"
OWN_SCHEME = "99CRRG"
SYSTEM_URLS: Mapping[str, str] = {
    SNOMED: "http://snomed.info/sct",
    "LN": "http://loinc.org",
    OWN_SCHEME: "urn:crrg-clip:codes",
}
"""FHIR's address of each coding scheme."""


@dataclass(frozen=True)
class Code:
    """A coded concept.

    Attributes:
        value: Code within its scheme, at most 16 characters.
        scheme: DICOM's designator of the scheme.
        meaning: What people read, at most 64 characters.
    """

    value: str
    scheme: str
    meaning: str


def own_code(kind: str, number: int, meaning: str) -> Code:
    """Return a code of our own scheme; numbers follow the fixed order of labels and regions and never change."""
    return Code(f"{kind}{number:02d}", OWN_SCHEME, meaning)


_SNOMED_LABELS: Mapping[str, tuple[str, str]] = {
    "Cardiomegaly": ("8186001", "Cardiomegaly"),
    "Edema": ("19242006", "Pulmonary edema"),
    "Pneumonia": ("233604007", "Pneumonia"),
    "Atelectasis": ("46621007", "Atelectasis"),
    "Pneumothorax": ("36118008", "Pneumothorax"),
    "Pleural Effusion": ("60046008", "Pleural effusion"),
    "Fracture": ("125605004", "Fracture of bone"),
}
LABEL_CODES: Mapping[str, Code] = {label: own_code("LABEL", i + 1, label) for i, label in enumerate(LABELS)}
"""Own code of every observation."""
LABEL_CONCEPTS: Mapping[str, Code] = {
    label: Code(value, SNOMED, meaning) for label, (value, meaning) in _SNOMED_LABELS.items()
}
"""SNOMED CT concept of the observations that have exactly one; the others are CheXpert's own groups."""
REGION_CODES: Mapping[str, Code] = {region: own_code("REGION", i + 1, region) for i, region in enumerate(REGIONS)}
"""Own code of every region."""

RIGHT = Code("24028007", SNOMED, "Right")
LEFT = Code("7771000", SNOMED, "Left")
_LUNG = Code("39607008", SNOMED, "Lung")
_SITES: Mapping[str, Code] = {
    "lung": _LUNG,
    "upper lung zone": _LUNG,
    "mid lung zone": _LUNG,
    "lower lung zone": _LUNG,
    "costophrenic angle": _LUNG,
    "hilar structures": Code("46750007", SNOMED, "Hilum of lung"),
    "apical zone": Code("86598002", SNOMED, "Apex of Lung"),
    "hemidiaphragm": Code("5798000", SNOMED, "Diaphragm"),
    "clavicle": Code("51299004", SNOMED, "Clavicle"),
    "trachea": Code("44567001", SNOMED, "Trachea"),
    "spine": Code("421060004", SNOMED, "Spine"),
    "aortic arch": Code("57034009", SNOMED, "Aortic arch"),
    "mediastinum": Code("72410000", SNOMED, "Mediastinum"),
    "upper mediastinum": Code("72410000", SNOMED, "Mediastinum"),
    "svc": Code("48345005", SNOMED, "Superior vena cava"),
    "cardiac silhouette": Code("80891009", SNOMED, "Heart"),
    "cavoatrial junction": Code("48345005", SNOMED, "Superior vena cava"),
    "right atrium": Code("73829009", SNOMED, "Right atrium"),
    "carina": Code("28700002", SNOMED, "Carina"),
    "abdomen": Code("818981001", SNOMED, "Abdomen"),
}


def region_site(region: str) -> tuple[Code, Code | None]:
    """Return the anatomical site of a region, and the side where the site itself has two.

    Args:
        region: One of the 29 names; zones and angles are sited in their lung.
    """
    if region in _SITES:
        return _SITES[region], None
    side, _, part = region.partition(" ")
    return _SITES[part], {"right": RIGHT, "left": LEFT}[side]
