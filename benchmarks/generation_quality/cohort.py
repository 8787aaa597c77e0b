"""A bundle's drafts of a cohort that nothing was chosen on, beside what needs no model.

Drafts are kept chunk by chunk, so that a call that was stopped goes on with the next chunk, as long as what drafts is
the same code on the same kind of device. References are the drawn
boxes, reports and labels; evaluation never shows them to the pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.classification.cohorts import draw_cohort
from benchmarks.generation_quality.provenance import drafting_code, drawing_code, preset_of
from benchmarks.resumable import Table
from crrg.config.references import DatasetRef
from crrg.data.dataset.pairs import resolve_dataset
from crrg.data.dataset.spaced import sampled_films
from crrg.domain.labels import FINDINGS, LABELS, label_column
from crrg.domain.study import DraftReport, Film, Pair, RegionPrediction, Split
from crrg.evaluation import baselines, clinical
from crrg.evaluation.clinical import precision_recall_f1
from crrg.evaluation.detection import mean_box_candidates, score_boxes, score_selection
from crrg.evaluation.text import score_text
from crrg.inference.pipeline import ReportPipeline
from crrg.operations.scoring.cases import Baselines, Case, fit_baselines
from crrg.operations.scoring.regions import region_arrays
from crrg.operations.scoring.score import score_cases
from crrg.storage import Storage

CHUNK_SIZE = 100
MIN_POSITIVES = 20
"""A condition with fewer positive references is too rare for a statement about it."""
TRAINING_DATASET = "demo"
FloatArray = NDArray[np.float64]
Figures = dict[str, Any]


@dataclass(frozen=True)
class Cohort:
    """What is drawn.

    Attributes:
        dataset: What it becomes in the root.
        fits_reports: Whether pictures are drawn for the reports of Open-i, else sampled.
        num_studies: How many.
        seed: Of the drawing.
    """

    dataset: str
    fits_reports: bool
    num_studies: int
    seed: int


def draw(storage: Storage, cohort: Cohort) -> DatasetRef:
    """Draw a cohort and return its dataset; one that the same code has drawn is found again."""
    dataset = f"{cohort.dataset}-{cohort.seed}-{cohort.num_studies}-{drawing_code()}"
    draw_cohort(storage, dataset, cohort.fits_reports, cohort.num_studies, cohort.seed)
    return resolve_dataset(storage, dataset, "")


def measure_cohort(pipeline: ReportPipeline, storage: Storage, cohort: Cohort, folder: Path) -> Figures:
    """Draw a cohort, draft it and score the drafts; what was drawn or drafted before is found again.

    Args:
        pipeline: The bundle.
        storage: Root with the bundle and the dataset it was trained on.
        cohort: What to draw.
        folder: Where finished drafts are kept.
    """
    dataset = draw(storage, cohort)
    pairs = [pair for pair, _ in sampled_films(storage, dataset, Split.TEST)]
    device = next(pipeline.detector.parameters()).device.type
    table = Table(folder / f"drafts-{pipeline.bundle_id[:12]}-{dataset.name}-{drafting_code()}-{device}.json")
    cases: list[Case] = []
    for first in range(0, len(pairs), CHUNK_SIZE):
        chunk, name = pairs[first : first + CHUNK_SIZE], f"part{first // CHUNK_SIZE}"
        table.fill(name, lambda chunk=chunk: {"drafts": [asdict(d) for d in pipeline.draft(_films(chunk))]})
        drafts = [read_draft(value) for value in table.rows[name]["drafts"]]
        cases += [Case(pair, draft) for pair, draft in zip(chunk, drafts, strict=True)]
    known = fit_baselines(storage, resolve_dataset(storage, TRAINING_DATASET, ""))
    texts, reports = baseline_texts(cases, known), baseline_reports(cases, known)
    return {
        "num_films": len(cases),
        "preset": preset_of(pipeline.detector.architecture),
        "device": device,
        "scorecard": score_cases(cases, known, abnormal_threshold=pipeline.thresholds.abnormal).to_dict(),
        "regions": region_figures(cases, known, pipeline.thresholds.abnormal),
        "text": text_figures(cases, texts),
        "clinical": clinical_figures([case.reference for case in cases], reports),
        "sentences": {name: sentence_figures(given) for name, given in texts.items()}
        | {"references": sentence_figures([case.reference.report.findings or "" for case in cases])},
    }


def read_draft(value: Figures) -> DraftReport:
    """Return a draft from what ``dataclasses.asdict`` made of it and JSON kept."""
    regions = [
        RegionPrediction(**{**row, "box_xyxy": tuple(float(corner) for corner in row["box_xyxy"])})
        for row in value["regions"]
    ]
    return DraftReport(**{**value, "regions": tuple(regions), "flags": tuple(value["flags"])})


def baseline_texts(cases: Sequence[Case], known: Baselines) -> dict[str, list[str]]:
    """Return the findings of the drafts and of each baseline, film by film."""
    return _texts([case.draft.findings for case in cases], cases, known, known.findings)


def baseline_reports(cases: Sequence[Case], known: Baselines) -> dict[str, list[str]]:
    """Return findings and impression of the drafts and of each baseline, film by film, as scorecards read labels."""
    return _texts([f"{case.draft.findings} {case.draft.impression}" for case in cases], cases, known, known.texts)


def _texts(
    drafts: list[str], cases: Sequence[Case], known: Baselines, training_texts: Sequence[str]
) -> dict[str, list[str]]:
    return {
        "drafts": drafts,
        "best constant report": [known.constant] * len(cases),
        "always normal": [baselines.NORMAL_REPORT] * len(cases),
        "nearest neighbour's report": [training_texts[row] for row in known.neighbours(cases)],
    }


def region_figures(cases: Sequence[Case], known: Baselines, abnormal_threshold: float) -> Figures:
    """Return leak-free detection by region, selection and abnormality, both of the regions of which it is known.

    Abnormality is of the regions that were found, as in scorecards.

    Args:
        cases: Drafts with references.
        known: Baselines of the training dataset.
        abnormal_threshold: Probability from which the selector calls a region abnormal.
    """
    arrays = region_arrays(cases)
    judged = np.isfinite(arrays.is_abnormal) & arrays.given.detected
    wanted = arrays.is_abnormal[judged] == 1
    called = arrays.abnormal_probabilities[judged] >= abnormal_threshold
    usual = np.broadcast_to(known.usual_regions, arrays.has_phrase.shape)
    told = arrays.is_told
    return {
        "detection": score_boxes(arrays.given.boxes, arrays.truth, arrays.given.detected),
        "mean box": score_boxes(mean_box_candidates(known.mean_boxes, arrays.sizes), arrays.truth),
        "selection": score_selection(arrays.selected[told], arrays.has_phrase[told]),
        "usual regions": score_selection(usual[told], arrays.has_phrase[told]),
        "abnormality": dict(zip(("precision", "recall", "f1"), precision_recall_f1(called, wanted), strict=True)),
        "all abnormal": dict(
            zip(("precision", "recall", "f1"), precision_recall_f1(np.ones_like(wanted), wanted), strict=True)
        ),
    }


def text_figures(cases: Sequence[Case], texts: dict[str, list[str]]) -> Figures:
    """Return the text figures of drafts and baselines by protocol; films without findings are left out."""
    rows = [row for row, case in enumerate(cases) if case.reference.report.findings]
    references = [cases[row].reference.report.findings or "" for row in rows]
    return {
        name: {
            key: value
            for protocol in ("rgrg", "r2gen", "nltk")
            for key, value in score_text([given[row] for row in rows], references, protocol).items()
        }
        for name, given in texts.items()
    }


def clinical_figures(references: Sequence[Pair], texts: dict[str, list[str]]) -> Figures:
    """Return what the rule labeler reads in drafts and baselines against the films' labels.

    Args:
        references: What is known of each film.
        texts: Findings and impression of drafts and baselines by name, film by film.

    Returns:
        Per name micro and macro figures; under ``conditions`` precision, recall and F1 of the drafts with the number of
        positive references; under ``never_right`` the conditions with F1 = 0 among those with at least 20 positives.
    """
    labels, counted = [pair.labels for pair in references], clinical.known_labels(references)
    positives = clinical.positive_matrix(labels).sum(axis=0)
    scores = {name: clinical.score_clinical(given, labels, counted) for name, given in texts.items()}
    conditions = {
        label: {
            "positives": int(positives[LABELS.index(label)]),
            **{key: scores["drafts"][f"clinical/{label_column(label)}_{key}"] for key in ("precision", "recall", "f1")},
        }
        for label in FINDINGS
    }
    kept = ("micro_f1", "micro_precision", "micro_recall", "macro_f1", "micro14_f1", "micro5_f1", "example14_f1")
    return {
        "overall": {
            name: {key: value[f"clinical/{key}"] for key in kept if f"clinical/{key}" in value}
            for name, value in scores.items()
        },
        "conditions": conditions,
        "never_right": [
            label for label, row in conditions.items() if row["positives"] >= MIN_POSITIVES and row["f1"] == 0
        ],
    }


def sentence_figures(reports: Sequence[str]) -> Figures:
    """Return how long and how different sentences are.

    Returns:
        ``sentences_per_report``, ``words_per_sentence``, ``distinct_sentences`` (share of all sentences),
        ``distinct_reports`` (share of all reports) and ``distinct_2`` (share of all pairs of neighbouring words).
    """
    sentences = [[part.split() for part in report.split(".") if part.strip()] for report in reports]
    flat = [tuple(sentence) for report in sentences for sentence in report]
    pairs = [pair for sentence in flat for pair in pairwise(sentence)]
    return {
        "sentences_per_report": len(flat) / max(1, len(reports)),
        "words_per_sentence": sum(map(len, flat)) / max(1, len(flat)),
        "distinct_sentences": len(set(flat)) / max(1, len(flat)),
        "distinct_reports": len(set(reports)) / max(1, len(reports)),
        "distinct_2": len(set(pairs)) / max(1, len(pairs)),
    }


def _films(pairs: Sequence[Pair]) -> list[Film]:
    return [pair.film for pair in pairs if pair.film is not None]
