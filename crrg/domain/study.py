"""Values that describe a radiograph and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from crrg.domain.acquisition import UNKNOWN, Acquisition
from crrg.domain.boxes import BoxXyxy, Letterbox
from crrg.domain.labels import LabelValues
from crrg.domain.report import Report


class ViewPosition(StrEnum):
    """Projection of a film (DICOM ViewPosition); AP and PA are frontal."""

    PA = "PA"
    AP = "AP"
    LATERAL = "LATERAL"
    LL = "LL"
    UNKNOWN = "UNKNOWN"

    @property
    def is_frontal(self) -> bool:
        """Whether the film is frontal; an unknown view counts as frontal and is flagged elsewhere."""
        return self in (ViewPosition.PA, ViewPosition.AP, ViewPosition.UNKNOWN)


class Split(StrEnum):
    """Part of a dataset; a patient is in exactly one."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class RegionSource(StrEnum):
    """Where a region box comes from."""

    SCENE_GRAPH = "scene_graph"
    MASK = "mask"
    DETECTOR = "detector"
    ATLAS = "atlas"


@dataclass(frozen=True)
class Film:
    """A decoded radiograph, ready for a model.

    Attributes:
        pixels: uint8 ``[H, W]``, white = dense, longer side at most the dataset's image size.
        original_width: Width in original pixels (after EXIF turn and resampling to square pixels).
        original_height: Height in original pixels.
        view_position: Projection.
        pixel_spacing_mm: Row and column spacing of the original pixels in mm, or ``None`` if unknown.
        polarity_inverted: Whether the stored values were inverted to make white dense.
        pixel_digest: sha256 over shape and bytes of ``pixels``.
        flags: Remarks such as ``view_unknown`` or ``paediatric``.
    """

    pixels: NDArray[np.uint8]
    original_width: int
    original_height: int
    view_position: ViewPosition
    pixel_spacing_mm: tuple[float, float] | None
    polarity_inverted: bool
    pixel_digest: bytes
    flags: tuple[str, ...] = ()

    def letterbox(self, size: int) -> Letterbox:
        """Return how this film, as it is kept, lies in a model's input of side ``size``, pixels."""
        height, width = self.pixels.shape
        return Letterbox(self.original_width, self.original_height, size, kept_size=(width, height))


@dataclass(frozen=True)
class RegionAnnotation:
    """What is known of one region on one film.

    Attributes:
        region: One of ``REGIONS``.
        box_xyxy: Original pixels.
        phrase: What the report says of the region, or ``None``.
        is_abnormal: Whether the phrase describes an abnormality, or ``None`` if unknown.
        source: Where the box comes from.
    """

    region: str
    box_xyxy: BoxXyxy
    phrase: str | None
    is_abnormal: bool | None
    source: RegionSource


@dataclass(frozen=True)
class Pair:
    """One row of a dataset: a film with its report, or a report without a film.

    Attributes:
        patient_id: Pseudonym; the unit of splitting and resampling.
        study_id: Pseudonym of the examination.
        instance_id: Pseudonym of the image object, or of the report where there is no film.
        film: The radiograph, or ``None`` in a text-only row.
        report: The report; its sections may be ``None``.
        regions: Annotated regions; an absent region is un-annotated, never a negative.
        labels: Known labels; a missing name is unmentioned.
        label_source: How the labels were made, e.g. ``drawn``, ``report``, ``mesh``; ``none`` where nobody made any.
        source: Kind of archive the row comes from, e.g. ``phantom``.
        source_digest: sha256 of the source object's bytes.
        split: Part of the dataset.
        acquisition: Sex, age band and maker as far as known; in no column of the row, but in a table beside it.
    """

    patient_id: str
    study_id: str
    instance_id: str
    film: Film | None
    report: Report
    regions: tuple[RegionAnnotation, ...]
    labels: LabelValues
    label_source: str
    source: str
    source_digest: bytes
    split: Split
    acquisition: Acquisition = UNKNOWN

    @property
    def has_read_report(self) -> bool:
        """Whether a report was read for labels: what it does not mention is absent; else it is unknown.

        A report in a language that nobody here can label was not read.
        """
        return bool(self.report.text.strip()) and self.label_source != "none"


EARLIER_ABNORMAL_THRESHOLD = 0.5
"""From which pages showed a region as abnormal before nights noted the threshold of their bundle."""


def reads_abnormal(probability: float, threshold: float | None) -> bool:
    """Return whether a region reads abnormal, compared in single precision as drafting does.

    Args:
        probability: That the region is abnormal, 0..1.
        threshold: The bundle's, 0..1; ``None`` where it is not known.
    """
    limit = EARLIER_ABNORMAL_THRESHOLD if threshold is None else threshold
    return bool(np.float32(probability) >= np.float32(limit))


@dataclass(frozen=True)
class RegionPrediction:
    """What the models say of one region on one film.

    Attributes:
        region: One of ``REGIONS``.
        box_xyxy: Original pixels; a class-prior box where the region was not detected.
        detected: Whether the detector found the region and, where its scores are calibrated, the film shows it.
        score: Probability that the film shows the region where the bundle's detector is calibrated, else its own
            score; 0..1.
        selected: Whether the region deserves a sentence.
        abnormal_probability: 0..1.
        phrase: The drafted sentence, or ``None`` where the region was not selected or nothing was said of it.
        phrase_logprob: Mean log-probability per token of the phrase, or ``None``.
    """

    region: str
    box_xyxy: BoxXyxy
    detected: bool
    score: float
    selected: bool
    abnormal_probability: float
    phrase: str | None
    phrase_logprob: float | None


@dataclass(frozen=True)
class DraftReport:
    """A machine-made draft for one film; text and labels are one value, neither exists without the other.

    Attributes:
        findings: Drafted findings text.
        impression: Drafted impression text.
        regions: 29 predictions in region order.
        probabilities: Calibrated probability per label name, 14 of them.
        labels: Label name to 1 (at or above its threshold) or 0.
        consistency: 0..1, how well the text agrees with the film and its labels.
        flags: e.g. ``text_without_label:Pleural Effusion``.
    """

    findings: str
    impression: str
    regions: tuple[RegionPrediction, ...]
    probabilities: dict[str, float]
    labels: dict[str, int]
    consistency: float
    flags: tuple[str, ...] = field(default=())
