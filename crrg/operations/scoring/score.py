"""Score drafts against what is known of their films, each figure beside the simple baseline it has to beat.

Baselines are the mean box of each region, selecting every region or the usual ones, calling every region abnormal, a
logistic regression on 32 x 32 pixels, the constant report that suits validation best, the normal report, claiming every
finding, the usual phrase of each region, and the report of the most similar training film. What of them is fitted on
the training dataset is in ``scoring.cases``. Drafts may come from a pipeline (``draft_cases``) or from a committed
night.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from crrg.config.references import DatasetRef
from crrg.domain.labels import FINDINGS, LABELS, LabelValues
from crrg.domain.study import DraftReport, Film, Pair, Split
from crrg.evaluation import baselines, clinical
from crrg.evaluation.bootstrap import Resampling
from crrg.evaluation.classification import label_matrix, mean_auc
from crrg.evaluation.clinical_figures import clinical_figures
from crrg.evaluation.label_figures import classifier_figures
from crrg.evaluation.scorecard import Figure, Scorecard
from crrg.operations.drafter import Drafter
from crrg.operations.scoring.cases import Baselines, Case, thumbnails_of
from crrg.operations.scoring.groups import group_figures
from crrg.operations.scoring.labels import (
    FilmReader,
    LabelEvidence,
    evidence_figures,
    gather_evidence,
    given_labels,
    retrieval_figures,
)
from crrg.operations.scoring.main_figures import main_figures
from crrg.operations.scoring.regions import region_figures
from crrg.operations.scoring.texts import region_phrase_figures, told_texts, wording_figures
from crrg.progress import count_progress
from crrg.storage import Storage

if TYPE_CHECKING:
    from crrg.inference.regions import RegionThresholds

FloatArray = NDArray[np.float64]
CHUNK_SIZE = 64


class ScoredDrafter(FilmReader, Drafter, Protocol):
    """Drafts reports and says what its CLIP stage alone reads; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    @property
    def bundle_id(self) -> str:
        """Bundle the models come from."""

    @property
    def thresholds(self) -> RegionThresholds:
        """Probabilities from which regions are selected or called abnormal."""


def score_drafts(
    drafter: ScoredDrafter, cases: Sequence[Case], known: Baselines, dataset: DatasetRef, storage: Storage, split: Split
) -> Scorecard:
    """Score drafts of a split by ``draft_cases``.

    Args:
        drafter: Pipeline of the bundle; adds what its CLIP stage alone says of the same films.
        cases: The drafts.
        known: Baselines of the dataset (``fit_baselines``).
        dataset: Version they were made of.
        storage: Root.
        split: Part of the dataset.
    """
    films = [case.film for case in cases]
    subject = {
        "bundle_id": drafter.bundle_id,
        "dataset": dataset.name,
        "dataset_version": dataset.version,
        "split": split.value,
        "archives": ", ".join(sorted({case.reference.source for case in cases})),
    }
    evidence = gather_evidence(drafter, films, dataset, storage) if films else None
    return score_cases(cases, known, evidence=evidence, subject=subject, abnormal_threshold=drafter.thresholds.abnormal)


def draft_cases(drafter: ScoredDrafter, known: Sequence[tuple[Pair, Film]]) -> list[Case]:
    """Draft films in their order.

    Args:
        drafter: Pipeline of the bundle.
        known: Films, with what is known of each.
    """
    cases: list[Case] = []
    say = count_progress("evaluation", "films")
    for first in range(0, len(known), CHUNK_SIZE):
        chunk = known[first : first + CHUNK_SIZE]
        drafts = drafter.draft([film for _, film in chunk])
        cases += [Case(pair, draft) for (pair, _), draft in zip(chunk, drafts, strict=True)]
        say(len(cases), len(known))
    return cases


def score_cases(
    cases: Sequence[Case],
    known: Baselines,
    *,
    evidence: LabelEvidence | None = None,
    subject: dict[str, str] | None = None,
    abnormal_threshold: float | None = None,
) -> Scorecard:
    """Score drafts, each figure beside its baselines on the same films, with 95 % intervals over patients.

    Args:
        cases: Drafts and references; films without a reference box, phrase or label count where they have one.
        known: Baselines of the training dataset.
        evidence: What the CLIP stage alone says of the same films, shown beside the probabilities given out.
        subject: What was scored on what.
        abnormal_threshold: Probability from which drafts call a region abnormal; without it abnormality is left out.

    Returns:
        An empty scorecard for no case.
    """
    if not cases:
        return Scorecard((), 0, subject or {})
    patients = [case.reference.patient_id for case in cases]
    samples = Resampling(patients)
    neighbours = known.neighbours(cases)
    families: tuple[Callable[[], list[Figure]], ...] = (
        lambda: region_figures(cases, known, samples, abnormal_threshold),
        lambda: _label_figures(cases, known, evidence, patients),
        lambda: wording_figures(told_texts(cases, known, neighbours), known.validation),
        lambda: region_phrase_figures(cases, known, samples),
        lambda: _clinical_figures(cases, known, neighbours, samples),
        lambda: group_figures(
            [case.reference for case in cases], main_figures(cases, known, neighbours, abnormal_threshold)
        ),
    )
    figures: list[Figure] = []
    say = count_progress("scoring", "families of figures")
    for num_done, family in enumerate(families, start=1):
        figures += family()
        say(num_done, len(families))
    num_studies = len({case.reference.study_id for case in cases})
    return Scorecard(tuple(figures), num_studies, subject or {}, remarks=known.remarks)


def permute_drafts(cases: Sequence[Case]) -> list[Case]:
    """Give every film another film's draft, as a check that a figure comes from the picture.

    Boxes are carried over as shares of width and height.
    """
    order = baselines.permuted_rows(len(cases))
    return [Case(case.reference, _moved(cases[row], case)) for case, row in zip(cases, order, strict=True)]


def _label_figures(
    cases: Sequence[Case],
    known: Baselines,
    evidence: LabelEvidence | None,
    patients: Sequence[str],
) -> list[Figure]:
    references = label_matrix([case.reference.labels for case in cases])
    probabilities = np.array([[case.draft.probabilities[label] for label in LABELS] for case in cases])
    num = len(FINDINGS)
    if not np.isfinite(mean_auc(probabilities[:, :num], references[:, :num])):
        return []
    decisions = given_labels([case.draft.labels for case in cases])
    figures = classifier_figures("classification/", probabilities, decisions, references, patients, known.labels)
    if known.is_fitted:
        simple = baselines.logistic_regression_probabilities(known.thumbnails, known.labels, thumbnails_of(cases))
        rival = mean_auc(simple[:, :num], references[:, :num])
        figures = [replace(figures[0], baseline_name="32x32 logistic regression", baseline=rival), *figures]
    if evidence is None:
        return figures
    return [
        *figures,
        *evidence_figures(evidence, references, known.labels, patients),
        *retrieval_figures(evidence, [case.reference for case in cases], patients),
    ]


def _clinical_figures(
    cases: Sequence[Case], known: Baselines, neighbours: NDArray[np.int64], samples: Resampling
) -> list[Figure]:
    fitted: dict[str, Sequence[LabelValues]] = {
        "best constant report": clinical.read_labels([known.constant]) * len(cases),
        "nearest neighbour": clinical.read_labels([known.texts[row] for row in neighbours]),
    }
    rivals = {
        **(fitted if known.is_fitted else {}),
        "all positive": baselines.all_positive_labels(len(cases)),
        "always normal": clinical.read_labels([baselines.NORMAL_REPORT]) * len(cases),
    }
    drafts = clinical.read_labels([f"{case.draft.findings} {case.draft.impression}" for case in cases])
    references = [case.reference.labels for case in cases]
    return clinical_figures("clinical", drafts, references, samples, rivals, _known_labels(cases))


def _known_labels(cases: Sequence[Case]) -> NDArray[np.bool_]:
    return clinical.known_labels([case.reference for case in cases])


def _moved(giver: Case, taker: Case) -> DraftReport:
    """Return a draft with its boxes stretched to another film."""
    source, target = giver.film, taker.film
    scale = np.array(
        [target.original_width / source.original_width, target.original_height / source.original_height] * 2
    )
    regions = tuple(
        replace(region, box_xyxy=tuple((np.array(region.box_xyxy) * scale).tolist())) for region in giver.draft.regions
    )
    return replace(giver.draft, regions=regions)
