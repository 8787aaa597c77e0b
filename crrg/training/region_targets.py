"""What the selector is to say of each region, read from annotation and report; nothing unknown counts as negative.

Knows arrays only. Letters: ``N`` films, ``R`` regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crrg.data.dataset.batches import FilmTable
from crrg.domain.labels import LABEL_INDEX, LABELS, NO_FINDING, POSITIVE, UNCERTAIN
from crrg.domain.regions import NUM_REGIONS, REGION_INDEX
from crrg.evaluation.classification import known_values
from crrg.evaluation.detection import told_regions
from crrg.evaluation.labeler import label_report

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class RegionTargets:
    """Targets 1 or 0, NaN where unknown.

    Attributes:
        selection: ``[N, R]``, whether the report speaks of the region.
        abnormal: ``[N, R]``, whether what it says is abnormal.
        findings: ``[N, R, 14]``, which labels the region's phrase states.
        study: ``[N, 14]``, the film's labels.
    """

    selection: FloatArray
    abnormal: FloatArray
    findings: FloatArray
    study: FloatArray


def region_targets(films: FilmTable) -> RegionTargets:
    """Read the targets of films.

    Selection is known for the annotated regions of films whose report is tied to regions at all. A region with a
    phrase shows what the phrase states (possible findings count as present) and nothing else. A region without a phrase
    lacks the findings that the film's labels deny; where the film has a finding, or nothing is known, it is unknown
    whether this region shows it.
    """
    has_phrase, is_told = told_phrases(films)
    selection = np.where(is_told, has_phrase, np.nan)
    abnormal = np.where(has_phrase & (films.is_abnormal >= 0), films.is_abnormal, np.nan)
    abnormal = np.where(~has_phrase & (films.is_abnormal == 0), 0, abnormal)
    study = study_targets(films.labels)
    findings = np.where(study == 0, 0, np.nan)[:, None].repeat(NUM_REGIONS, axis=1)
    normal = LABEL_INDEX[NO_FINDING]
    findings[..., normal] = np.where(study[:, normal] == 1, 1, np.nan)[:, None]
    for row, phrases in enumerate(films.phrases):
        for region, phrase in phrases.items():
            findings[row, REGION_INDEX[region]] = phrase_findings(phrase)
    return RegionTargets(*(part.astype(np.float32) for part in (selection, abnormal, findings, study)))


def told_phrases(films: FilmTable) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which regions ``[N, R]`` the reports of films write about, and of which that is known."""
    has_phrase = np.array([[region in phrases for region in REGION_INDEX] for phrases in films.phrases], dtype=bool)
    has_phrase = has_phrase.reshape(len(films), NUM_REGIONS)
    is_annotated = np.asarray(np.isfinite(films.input_boxes_xyxy).all(axis=-1), dtype=np.bool_)
    return has_phrase, told_regions(is_annotated, has_phrase)


def phrase_findings(phrase: str) -> FloatArray:
    """Return which labels a phrase states, ``[14]``: 1 present or possible, else 0."""
    values = label_report(phrase)
    return np.array([values[label] in (POSITIVE, UNCERTAIN) for label in LABELS], dtype=np.float32)


def study_targets(labels: NDArray[np.int8]) -> FloatArray:
    """Return label values ``[N, 14]`` (1, 0, -1 uncertain, -2 unmentioned) as 1, 0, or NaN where unknown."""
    return known_values(labels).astype(np.float32)


def study_scores(finding_probabilities: FloatArray) -> FloatArray:
    """Return what the regions say of the whole film, ``[N, 14]``, from ``[N, R, 14]``.

    A film shows a finding as surely as its surest region. "No Finding" is what is left by the surest finding that is
    not a device.
    """
    scores = finding_probabilities.max(axis=1)
    others = [i for i, label in enumerate(LABELS) if label not in (NO_FINDING, "Support Devices")]
    scores[:, LABEL_INDEX[NO_FINDING]] = 1 - scores[:, others].max(axis=1)
    return np.asarray(scores)
