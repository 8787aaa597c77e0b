"""The codes that people gave to the studies of Open-i, and which of the 14 labels they state.

A study's codes are MeSH and RadLex headings with qualifiers (``Pleural Effusion/left/small``), one text with ``;``
between codes. This is the one place that says what a heading means as a label; what a code looks like when it is drawn
stands in ``phantom.openi_driven``.

Source: Demner-Fushman et al., JAMIA 2016;23(2):304-310 (the codes); the mapping is our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from crrg.domain.labels import FINDINGS, NEGATIVE, NO_FINDING, POSITIVE, UNCERTAIN, LabelValues

NORMAL = "normal"
NOT_INDEXED = "No Indexing"
TECHNICAL = "Technical Quality of Image Unsatisfactory"
LABEL_SOURCE = "mesh"

_HEADINGS: Mapping[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": ("Mediastinum",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Lung Opacity": ("Opacity", "Airspace Disease", "Infiltrate", "Lung Diseases, Interstitial", "Cicatrix"),
    "Lung Lesion": ("Nodule", "Mass"),
    "Edema": ("Pulmonary Edema", "Pulmonary Congestion", "Heart Failure"),
    "Consolidation": ("Consolidation",),
    "Pneumonia": ("Pneumonia",),
    "Atelectasis": ("Pulmonary Atelectasis",),
    "Pneumothorax": ("Pneumothorax", "Hydropneumothorax"),
    "Pleural Effusion": ("Pleural Effusion", "Hydropneumothorax"),
    "Pleural Other": ("Thickening",),
    "Fracture": ("Fractures, Bone",),
    "Support Devices": (
        "Catheters, Indwelling",
        "Surgical Instruments",
        "Implanted Medical Device",
        "Tube, Inserted",
        "Medical Device",
        "Stents",
        "Sutures",
        "Spinal Fusion",
    ),
}
_ONLY_WITH: Mapping[str, frozenset[str]] = {
    "Thickening": frozenset({"pleura"}),
    "Mediastinum": frozenset({"enlarged", "prominent"}),
    "Cicatrix": frozenset({"lung"}),
}
"""Headings that name a part of the body, or a change of any part: they state a label with one of these qualifiers."""
_BORDERLINE = "borderline"


@dataclass(frozen=True)
class MeshCode:
    """One code of a study.

    Attributes:
        heading: What it is about, a disease, a device or a part of the body.
        qualifiers: Place, degree and kind, in no order.
    """

    heading: str
    qualifiers: frozenset[str]


def read_codes(text: str) -> tuple[MeshCode, ...]:
    """Return the codes of a study in their order.

    Args:
        text: Codes with ``;`` between them and ``/`` between a heading and its qualifiers; may be empty.
    """
    codes = ([part.strip() for part in code.split("/")] for code in text.split(";") if code.strip())
    return tuple(MeshCode(heading, frozenset(qualifiers)) for heading, *qualifiers in codes)


def findings_of(codes: Iterable[MeshCode]) -> frozenset[str]:
    """Return the findings that the codes name, doubtful ones too."""
    return frozenset(label for code in codes for label in _labels_of(code))


def labels_of_codes(codes: Iterable[MeshCode]) -> LabelValues:
    """Return what the codes state as labels.

    Of a study coded ``normal`` every finding is absent. Of any other study only what is coded is said: a finding that
    nobody coded is unmentioned, since a code may be missing or stand in another word.

    Returns:
        Labels by name; empty for a study that nobody coded.
    """
    codes = [code for code in codes if code.heading != TECHNICAL]
    headings = {code.heading for code in codes}
    if NOT_INDEXED in headings:
        return {}
    if headings == {NORMAL}:
        return {**dict.fromkeys(FINDINGS, NEGATIVE), NO_FINDING: POSITIVE}
    labels: dict[str, int | None] = {}
    for code in codes:
        value = UNCERTAIN if _BORDERLINE in code.qualifiers else POSITIVE
        labels.update({label: value for label in _labels_of(code) if labels.get(label) != POSITIVE})
    if any(value == POSITIVE for label, value in labels.items() if label != "Support Devices"):
        labels[NO_FINDING] = NEGATIVE
    return labels


def _labels_of(code: MeshCode) -> tuple[str, ...]:
    wanted = _ONLY_WITH.get(code.heading)
    if wanted is not None and not wanted & code.qualifiers:
        return ()
    return tuple(label for label, headings in _HEADINGS.items() if code.heading in headings)
