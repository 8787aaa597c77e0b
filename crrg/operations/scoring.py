"""Score drafts against what is known of their films, each figure beside the simple baseline it has to beat.

The baselines are fitted on the training dataset: the mean box of each region, selecting every region or the usual
ones, a logistic regression on 32 x 32 pixels, the constant report that suits validation best, claiming every finding,
and the report of the most similar training film. Drafts may come from a pipeline (``draft_cases``) or from a committed
night.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crrg.config.references import DatasetRef
from crrg.data.batches import FilmTable, load_films
from crrg.data.images import model_input
from crrg.data.pairs import read_pairs
from crrg.domain.boxes import Letterbox
from crrg.domain.labels import FINDINGS, LABELS, LabelValues
from crrg.domain.regions import NUM_REGIONS, REGION_INDEX
from crrg.domain.study import DraftReport, Film, Pair, Split
from crrg.evaluation import baselines, clinical, text
from crrg.evaluation.bootstrap import bootstrap_interval, bootstrap_sums
from crrg.evaluation.classification import known_values, label_matrix, mean_auc
from crrg.evaluation.detection import mean_box, mean_box_candidates, region_iou, score_selection
from crrg.evaluation.label_figures import classifier_figures
from crrg.evaluation.protocols import Protocol as TextProtocol
from crrg.evaluation.protocols import tokenize
from crrg.evaluation.scorecard import Figure, Scorecard
from crrg.operations.scoring_groups import group_figures
from crrg.operations.scoring_labels import (
    FilmReader,
    LabelEvidence,
    evidence_figures,
    gather_evidence,
    given_labels,
    is_frontal,
    retrieval_figures,
)
from crrg.progress import count_progress
from crrg.registry.gate import CLINICAL_F1, LABEL_AUC, REGION_IOU
from crrg.storage import Storage

FloatArray = NDArray[np.float64]
THUMBNAIL_SIZE = 32
CHUNK_SIZE = 64
PROTOCOL: TextProtocol = "rgrg"


class Drafter(FilmReader, Protocol):
    """Drafts reports; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    @property
    def bundle_id(self) -> str:
        """Bundle the models come from."""

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        """Return one draft per film."""


@dataclass(frozen=True)
class Case:
    """One film with its draft and with what is known of it."""

    reference: Pair
    draft: DraftReport


@dataclass(frozen=True)
class Baselines:
    """What needs no model, fitted on a training dataset.

    Attributes:
        mean_boxes: ``[29, 4]`` as shares of width and height.
        usual_regions: ``[29]``, the regions that training reports usually write about.
        thumbnails: Training films ``[N, 32, 32]``.
        labels: Their labels ``[N, 14]``, NaN where unknown.
        findings: Their findings sections.
        texts: Their findings and impressions.
        constant: The training report with the highest mean score on validation.
    """

    mean_boxes: FloatArray
    usual_regions: NDArray[np.bool_]
    thumbnails: FloatArray
    labels: FloatArray
    findings: list[str]
    texts: list[str]
    constant: str


def fit_baselines(storage: Storage, dataset: DatasetRef) -> Baselines:
    """Fit the baselines on the frontal films of a dataset's training and validation splits."""
    train = load_films(storage, dataset, Split.TRAIN, THUMBNAIL_SIZE)
    validation = load_films(storage, dataset, Split.VALIDATION, THUMBNAIL_SIZE)
    known = [report for report in train.reports if report]
    references = [report for report in validation.reports if report] or known
    boxes = np.stack([_original_boxes(train, row) for row in range(len(train))])
    labels = known_values(train.labels)
    return Baselines(
        mean_boxes=np.asarray(mean_box(boxes, train.original_sizes.astype(float)), dtype=np.float64),
        usual_regions=baselines.usual_regions(_have_phrases(train)),
        thumbnails=train.images.astype(float),
        labels=labels,
        findings=train.reports,
        texts=[report.text for report in train.texts],
        constant=baselines.best_constant_report(known, references) if known else "",
    )


def score_drafts(
    drafter: Drafter, cases: Sequence[Case], known: Baselines, dataset: DatasetRef, storage: Storage, split: Split
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
    films = [_film(case) for case in cases]
    subject = {"bundle_id": drafter.bundle_id, "dataset": dataset.name, "dataset_version": dataset.version}
    evidence = gather_evidence(drafter, films, dataset, storage) if films else None
    return score_cases(cases, known, evidence=evidence, subject={**subject, "split": split.value})


def draft_cases(
    drafter: Drafter, dataset: DatasetRef, storage: Storage, *, split: Split = Split.TEST, limit: int = 0
) -> list[Case]:
    """Draft the frontal films of a split, in their order.

    Args:
        drafter: Pipeline of the bundle.
        dataset: Version to draft.
        storage: Root.
        split: Part of the dataset.
        limit: Most films; 0 takes all.
    """
    pairs = [pair for pair in read_pairs(storage, dataset, split) if is_frontal(pair)]
    pairs = pairs[:limit] if limit else pairs
    films = [pair.film for pair in pairs if pair.film is not None]
    cases: list[Case] = []
    say = count_progress("evaluation", "films")
    for first in range(0, len(films), CHUNK_SIZE):
        drafts = drafter.draft(films[first : first + CHUNK_SIZE])
        cases += [Case(pair, draft) for pair, draft in zip(pairs[first : first + CHUNK_SIZE], drafts, strict=True)]
        say(len(cases), len(films))
    return cases


def score_cases(
    cases: Sequence[Case],
    known: Baselines,
    *,
    evidence: LabelEvidence | None = None,
    subject: dict[str, str] | None = None,
) -> Scorecard:
    """Score drafts, each figure beside its baselines on the same films, with 95 % intervals over patients.

    Args:
        cases: Drafts and references; films without a reference box, phrase or label count where they have one.
        known: Baselines of the training dataset.
        evidence: What the CLIP stage alone says of the same films, shown beside the probabilities given out.
        subject: What was scored on what.

    Returns:
        An empty scorecard for no case.
    """
    if not cases:
        return Scorecard((), 0, subject or {})
    patients = [case.reference.patient_id for case in cases]
    thumbnails = thumbnails_of(cases)
    figures = [
        *_region_figures(cases, known, patients),
        *_label_figures(cases, known, thumbnails, evidence, patients),
        *_text_figures(cases, known, patients),
        *_clinical_figures(cases, known, thumbnails, patients),
        *group_figures([case.reference for case in cases], _main_statistics(cases)),
    ]
    num_studies = len({case.reference.study_id for case in cases})
    return Scorecard(tuple(figures), num_studies, subject or {})


def thumbnails_of(cases: Sequence[Case]) -> FloatArray:
    """Return the films of cases as a baseline sees them ``[N, 32, 32]``."""
    return np.stack([model_input(_film(case).pixels, THUMBNAIL_SIZE) for case in cases]).astype(float)


def permute_drafts(cases: Sequence[Case], seed: int = 0) -> list[Case]:
    """Give every film another film's draft, as a check that a figure comes from the picture.

    Boxes are carried over as shares of width and height.
    """
    order = baselines.permuted_rows(len(cases), seed)
    return [Case(case.reference, _moved(cases[row], case)) for case, row in zip(cases, order, strict=True)]


def _main_statistics(cases: Sequence[Case]) -> dict[str, Callable[[NDArray[np.int64]], float]]:
    """Return the figures that a gate looks at, as functions of the rows that they are of."""
    iou = _overlaps(cases, _reference_boxes(cases))
    num = len(FINDINGS)
    references = label_matrix([case.reference.labels for case in cases])[:, :num]
    probabilities = np.array([[case.draft.probabilities[label] for label in FINDINGS] for case in cases])
    drafts = clinical.read_labels([f"{case.draft.findings} {case.draft.impression}" for case in cases])
    counts = clinical.micro_f1_counts(drafts, [case.reference.labels for case in cases])
    return {
        REGION_IOU: lambda rows: _mean_of_regions(iou[rows]),
        LABEL_AUC: lambda rows: mean_auc(probabilities[rows], references[rows]),
        CLINICAL_F1: lambda rows: clinical.f1_from_counts(counts[rows].sum(axis=0)),
    }


def _reference_boxes(cases: Sequence[Case]) -> FloatArray:
    """Return known boxes ``[N, 29, 4]`` in original pixels, NaN where a region is not annotated."""
    references = np.full((len(cases), NUM_REGIONS, 4), np.nan)
    for row, case in enumerate(cases):
        for region in case.reference.regions:
            references[row, REGION_INDEX[region.region]] = region.box_xyxy
    return references


def _overlaps(cases: Sequence[Case], references: FloatArray) -> FloatArray:
    """Return the IoU ``[N, 29]`` of drafted and known boxes: 0 where a region was not found, NaN if not annotated."""
    candidates = np.array([[region.box_xyxy for region in case.draft.regions] for case in cases], dtype=float)
    detected = np.array([[region.detected for region in case.draft.regions] for case in cases])
    missed = np.where(np.isnan(references[..., 0]), np.nan, 0.0)
    return np.where(detected, region_iou(candidates, references), missed)


def _region_figures(cases: Sequence[Case], known: Baselines, patients: Sequence[str]) -> list[Figure]:
    references = _reference_boxes(cases)
    has_phrase = np.zeros((len(cases), NUM_REGIONS), dtype=bool)
    for row, case in enumerate(cases):
        for region in case.reference.regions:
            has_phrase[row, REGION_INDEX[region.region]] = region.phrase is not None
    selected = np.array([[region.selected for region in case.draft.regions] for case in cases])
    sizes = np.array([[_film(case).original_width, _film(case).original_height] for case in cases], dtype=float)
    iou = _overlaps(cases, references)
    constant = np.asarray(region_iou(mean_box_candidates(known.mean_boxes, sizes), references), dtype=np.float64)
    figures = []
    if np.isfinite(iou).any():
        rival = ("mean box", _mean_of_regions(constant))
        found = _figure("detection/mean_region_iou", lambda rows: _mean_of_regions(iou[rows]), patients, rival)
        figures.append(found)
    if has_phrase.any():
        rivals = {
            "always select": baselines.always_select_f1(has_phrase),
            "usual regions": baselines.constant_selection_f1(known.usual_regions, has_phrase),
        }
        figures += [
            _figure("selection/f1", lambda rows: _selection_f1(selected[rows], has_phrase[rows]), patients, rival)
            for rival in rivals.items()
        ]
    return figures


def _label_figures(
    cases: Sequence[Case],
    known: Baselines,
    thumbnails: FloatArray,
    evidence: LabelEvidence | None,
    patients: Sequence[str],
) -> list[Figure]:
    references = label_matrix([case.reference.labels for case in cases])
    probabilities = np.array([[case.draft.probabilities[label] for label in LABELS] for case in cases])
    num = len(FINDINGS)
    if not np.isfinite(mean_auc(probabilities[:, :num], references[:, :num])):
        return []
    simple = baselines.logistic_regression_probabilities(known.thumbnails, known.labels, thumbnails)
    rival = ("32x32 logistic regression", mean_auc(simple[:, :num], references[:, :num]))
    decisions = given_labels([case.draft.labels for case in cases])
    figures = classifier_figures("classification/", probabilities, decisions, references, patients, known.labels)
    auc = figures[0]
    beside = Figure(auc.name, auc.value, auc.low, auc.high, *rival)
    if evidence is None:
        return [beside, *figures]
    return [
        beside,
        *figures,
        *evidence_figures(evidence, references, known.labels, patients),
        *retrieval_figures(evidence, [case.reference for case in cases], patients),
    ]


def _text_figures(cases: Sequence[Case], known: Baselines, patients: Sequence[str]) -> list[Figure]:
    rows = [row for row, case in enumerate(cases) if case.reference.report.findings]
    if not rows:
        return []
    patients = [patients[row] for row in rows]
    references = [tokenize(cases[row].reference.report.findings or "", PROTOCOL) for row in rows]
    candidates = [tokenize(cases[row].draft.findings, PROTOCOL) for row in rows]
    constants = [tokenize(known.constant, PROTOCOL)] * len(rows)
    counts = text.bleu_counts(candidates, references)
    rouge = text.rouge_l_per_report(candidates, references)[:, None]
    low, high = bootstrap_sums(counts, lambda sums: text.bleu_from_counts(sums)[3], patients)
    bleu = Figure(
        f"{PROTOCOL}/bleu_4", text.bleu(candidates, references)[3], low, high,
        "best constant report", text.bleu(constants, references)[3],
    )  # fmt: skip
    low, high = bootstrap_interval(lambda drawn: float(rouge[drawn].mean()), patients)
    rouge_l = Figure(
        f"{PROTOCOL}/rouge_l", float(rouge.mean()), low, high,
        "best constant report", float(text.rouge_l_per_report(constants, references).mean()),
    )  # fmt: skip
    others = text.score_text(
        [cases[row].draft.findings for row in rows],
        [cases[row].reference.report.findings or "" for row in rows],
        PROTOCOL,
    )
    shown = [Figure(f"{PROTOCOL}/{name}", others[f"{PROTOCOL}/{name}"]) for name in ("cider_d", "meteor_offline")]
    return [bleu, rouge_l, *shown]


def _clinical_figures(
    cases: Sequence[Case], known: Baselines, thumbnails: FloatArray, patients: Sequence[str]
) -> list[Figure]:
    references: list[LabelValues] = [case.reference.labels for case in cases]
    drafts = clinical.read_labels([f"{case.draft.findings} {case.draft.impression}" for case in cases])
    counts = clinical.micro_f1_counts(drafts, references)
    value = clinical.f1_from_counts(counts.sum(axis=0))
    low, high = bootstrap_sums(counts, clinical.f1_from_counts, patients)
    neighbours = baselines.nearest_neighbours(known.thumbnails, thumbnails)
    rivals: dict[str, Sequence[LabelValues]] = {
        "best constant report": clinical.read_labels([known.constant]) * len(cases),
        "all positive": baselines.all_positive_labels(len(cases)),
        "nearest neighbour": clinical.read_labels([known.texts[row] for row in neighbours]),
    }
    figures = []
    for name, labels in rivals.items():
        rival = clinical.f1_from_counts(clinical.micro_f1_counts(labels, references).sum(axis=0))
        figures.append(Figure("clinical/micro_f1", value, low, high, name, rival))
    details = clinical.score_labels(drafts, references)
    return [*figures, *(Figure(name, details[name]) for name in ("clinical/macro_f1",) if name in details)]


def _figure(
    name: str,
    statistic: Callable[[NDArray[np.int64]], float],
    patients: Sequence[str],
    rival: tuple[str, float],
) -> Figure:
    """Return a figure with its interval, beside the name and value of its baseline."""
    low, high = bootstrap_interval(statistic, patients)
    return Figure(name, statistic(np.arange(len(patients))), low, high, *rival)


def _mean_of_regions(iou: FloatArray) -> float:
    """Return the mean over regions of the mean over films; regions annotated nowhere are left out."""
    is_known = np.isfinite(iou)
    per_region = (
        np.where(is_known, iou, 0).sum(axis=0)[is_known.any(axis=0)] / is_known.sum(axis=0)[is_known.any(axis=0)]
    )
    return float(per_region.mean()) if len(per_region) else float("nan")


def _selection_f1(selected: NDArray[np.bool_], has_phrase: NDArray[np.bool_]) -> float:
    return score_selection(selected, has_phrase)["selection/f1"]


def _original_boxes(films: FilmTable, row: int) -> FloatArray:
    width, height = (int(side) for side in films.original_sizes[row])
    boxes = Letterbox(width, height, THUMBNAIL_SIZE).to_original(films.input_boxes_xyxy[row].astype(float))
    return np.asarray(boxes, dtype=np.float64)


def _have_phrases(films: FilmTable) -> NDArray[np.bool_]:
    """Return which regions ``[N, 29]`` the reports of annotated films write about."""
    annotated = [row for row in range(len(films)) if np.isfinite(films.input_boxes_xyxy[row]).any()]
    has_phrase = np.zeros((len(annotated), NUM_REGIONS), dtype=bool)
    for found, row in zip(has_phrase, annotated, strict=True):
        found[[REGION_INDEX[region] for region in films.phrases[row]]] = True
    return has_phrase


def _film(case: Case) -> Film:
    if case.reference.film is None:
        raise ValueError("a text-only row cannot be a case")
    return case.reference.film


def _moved(giver: Case, taker: Case) -> DraftReport:
    """Return a draft with its boxes stretched to another film."""
    source, target = _film(giver), _film(taker)
    scale = np.array(
        [target.original_width / source.original_width, target.original_height / source.original_height] * 2
    )
    regions = tuple(
        replace(region, box_xyxy=tuple((np.array(region.box_xyxy) * scale).tolist())) for region in giver.draft.regions
    )
    return replace(giver.draft, regions=regions)
