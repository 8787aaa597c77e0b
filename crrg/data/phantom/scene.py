"""What is to be drawn and said of one drawn study: the values that the painter and the grammar share.

Knows nothing of pixels or sentences; ``film`` paints a scene, ``grammar`` words it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crrg.domain.boxes import BoxXyxy
from crrg.domain.labels import LABELS, NO_FINDING, LabelValues
from crrg.domain.study import ViewPosition

Side = Literal["right", "left", "bilateral", "midline"]


@dataclass(frozen=True)
class DrawnFinding:
    """One finding that is present on a drawn film.

    Attributes:
        label: One of ``FINDINGS``.
        kind: Variant that decides picture and words, e.g. ``endotracheal_tube`` or ``rib_fracture``.
        side: Patient's side.
        regions: Names out of ``REGIONS`` where it is visible, the most telling first.
        severity: 0..1; below 1/3 is mild.
    """

    label: str
    kind: str
    side: Side
    regions: tuple[str, ...]
    severity: float

    @property
    def grade(self) -> Literal["mild", "moderate", "severe"]:
        """Severity in words."""
        return "mild" if self.severity < 1 / 3 else "moderate" if self.severity < 2 / 3 else "severe"


@dataclass(frozen=True)
class Scene:
    """One drawn study before it is painted or worded.

    Attributes:
        index: Number of the study in its cohort; with the cohort's seed it decides everything.
        patient_number: Number of the patient in the cohort (a patient may have several studies).
        view_position: PA or AP.
        age_years: Age of the patient.
        sex: DICOM code, F or M.
        findings: What is present; empty on a normal film.
    """

    index: int
    patient_number: int
    view_position: ViewPosition
    age_years: int
    sex: Literal["F", "M"]
    findings: tuple[DrawnFinding, ...]

    @property
    def labels(self) -> LabelValues:
        """Exact labels: 1 or 0 for all 14."""
        present = {finding.label for finding in self.findings}
        values = {label: int(label in present) for label in LABELS}
        values[NO_FINDING] = int(not present - {"Support Devices"})
        return values


@dataclass(frozen=True)
class WordedReport:
    """The report a grammar wrote for a scene.

    Attributes:
        indication: Why the film was made.
        findings: Text of the findings section.
        impression: Text of the impression section.
        phrases: Region name to its phrase (one or more sentences); only regions a radiologist would write about.
        abnormal_regions: Regions whose phrase describes an abnormality.
    """

    indication: str
    findings: str
    impression: str
    phrases: dict[str, str]
    abnormal_regions: frozenset[str]


@dataclass(frozen=True)
class RegionBoxes:
    """Exact boxes of a drawn film.

    Attributes:
        boxes: Region name to ``box_xyxy`` in pixels of the drawn film; all 29.
    """

    boxes: dict[str, BoxXyxy]
