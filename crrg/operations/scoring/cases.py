"""What a scorecard is made of: films with their drafts, and what needs no model, fitted on a training dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crrg.config.references import DatasetRef
from crrg.data.dataset.batches import FilmTable, load_films
from crrg.data.images import model_input
from crrg.domain.regions import NUM_REGIONS
from crrg.domain.study import DraftReport, Film, Pair, Split
from crrg.evaluation.baselines import best_constant_report, nearest_neighbours, usual_phrases, usual_regions
from crrg.evaluation.classification import known_values
from crrg.evaluation.detection import mean_box
from crrg.storage import Storage
from crrg.training.region_targets import told_phrases

FloatArray = NDArray[np.float64]
THUMBNAIL_SIZE = 32
"""Side of a film as a baseline sees it, pixels."""
FITTED = (
    "mean box",
    "usual regions",
    "32x32 logistic regression",
    "majority",
    "best constant report",
    "nearest neighbour",
    "usual phrase",
)
"""Baselines that are made of training films."""


@dataclass(frozen=True)
class Case:
    """One film with its draft and with what is known of it.

    Attributes:
        reference: What is known; it has a film.
        draft: What was drafted.
    """

    reference: Pair
    draft: DraftReport

    @property
    def film(self) -> Film:
        """The film that was drafted."""
        if self.reference.film is None:
            raise ValueError("a text-only row cannot be a case")
        return self.reference.film


@dataclass(frozen=True)
class Baselines:
    """What needs no model, fitted on a training dataset; one without training films leaves ``FITTED`` out.

    Attributes:
        mean_boxes: ``[29, 4]`` as shares of width and height.
        usual_regions: ``[29]``, the regions that training reports usually write about.
        thumbnails: Training films ``[N, 32, 32]``.
        labels: Their labels ``[N, 14]``, NaN where unknown.
        findings: Their findings sections.
        texts: Their findings and impressions.
        constant: The training report with the highest mean score on validation.
        validation: Findings sections of validation reports, for the document frequencies of RGRG's own CIDEr-D.
        usual_phrases: By region, the phrase that stands most often in training reports.
    """

    mean_boxes: FloatArray
    usual_regions: NDArray[np.bool_]
    thumbnails: FloatArray
    labels: FloatArray
    findings: list[str]
    texts: list[str]
    constant: str
    validation: Sequence[str] = ()
    usual_phrases: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_fitted(self) -> bool:
        """Whether there was a training film."""
        return len(self.thumbnails) > 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """Which baselines are left out, and why."""
        return () if self.is_fitted else tuple(f"{name}: no training films in this dataset" for name in FITTED)

    def neighbours(self, cases: Sequence[Case]) -> NDArray[np.int64]:
        """Return the row of the most similar training film of each case ``[B]``; empty where there is none."""
        if not self.is_fitted:
            return np.zeros(0, dtype=np.int64)
        return nearest_neighbours(self.thumbnails, thumbnails_of(cases))


def is_scorable(pair: Pair) -> bool:
    """Return whether anything is known of a film that a draft could be compared with."""
    known = [value for value in pair.labels.values() if value is not None]
    return bool(pair.report.findings or pair.regions or known)


def fit_baselines(storage: Storage, dataset: DatasetRef) -> Baselines:
    """Fit the baselines on the frontal films of a dataset's training and validation splits."""
    train = load_films(storage, dataset, Split.TRAIN, THUMBNAIL_SIZE)
    validation = load_films(storage, dataset, Split.VALIDATION, THUMBNAIL_SIZE)
    known = [report for report in train.reports if report]
    references = [report for report in validation.reports if report] or known
    boxes = np.array([_original_boxes(train, row) for row in range(len(train))]).reshape(-1, NUM_REGIONS, 4)
    labels = known_values(train.labels)
    return Baselines(
        mean_boxes=np.asarray(mean_box(boxes, train.original_sizes.astype(float)), dtype=np.float64),
        usual_regions=usual_regions(*told_phrases(train)),
        thumbnails=train.images.astype(float),
        labels=labels,
        findings=train.reports,
        texts=[report.text for report in train.texts],
        constant=best_constant_report(known, references) if known else "",
        validation=references,
        usual_phrases=usual_phrases(train.phrases),
    )


def thumbnails_of(cases: Sequence[Case]) -> FloatArray:
    """Return the films of cases as a baseline sees them ``[N, 32, 32]``."""
    return np.stack([model_input(case.film.pixels, THUMBNAIL_SIZE) for case in cases]).astype(float)


def _original_boxes(films: FilmTable, row: int) -> FloatArray:
    boxes = films.letterbox(row).to_original(films.input_boxes_xyxy[row].astype(float))
    return np.asarray(boxes, dtype=np.float64)
