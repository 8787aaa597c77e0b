"""What drafts of one architecture are worth, film by film, so that runs and architectures share one resampling.

Every figure is made of sums over films. A run keeps its sums; the mean over seeds, the difference of two architectures
and the 95 % intervals over patients are made of them later, on the same drawn samples of patients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.generation_quality.cohort import (
    baseline_reports,
    baseline_texts,
    clinical_figures,
    sentence_figures,
    text_figures,
)
from crrg.domain.regions import NUM_REGIONS, REGIONS
from crrg.evaluation import clinical
from crrg.evaluation.bootstrap import bootstrap_sums, ratio
from crrg.evaluation.clinical import decision_counts, f1_from_counts
from crrg.evaluation.detection import mean_box_candidates, region_iou
from crrg.evaluation.protocols import tokenize
from crrg.evaluation.text import bleu_counts, bleu_from_counts, rouge_l_per_report
from crrg.operations.scoring.cases import Baselines, Case
from crrg.operations.scoring.regions import region_arrays

FloatArray = NDArray[np.float64]
Sums = dict[str, list[list[float]]]
PROTOCOL = "rgrg"
DIGITS = 6
REGION_IOU = "IoU of "


def mean_over_regions(sums: FloatArray) -> float:
    """Return the mean over regions of sums ``[58]``: total of each region, then films that show it."""
    totals, counts = sums[:NUM_REGIONS], sums[NUM_REGIONS:]
    return float((totals[counts > 0] / counts[counts > 0]).mean()) if (counts > 0).any() else float("nan")


def precision(sums: FloatArray) -> float:
    """Return hits over found of hits, found, wanted."""
    return ratio(sums[:2])


def recall(sums: FloatArray) -> float:
    """Return hits over wanted of hits, found, wanted."""
    return ratio(sums[[0, 2]])


FIGURES: dict[str, tuple[str, Callable[[FloatArray], float]]] = {
    "mean region IoU": ("iou", mean_over_regions),
    "detected share": ("detected", ratio),
    "selection precision": ("selection", precision),
    "selection recall": ("selection", recall),
    "selection F1": ("selection", f1_from_counts),
    "abnormality precision": ("abnormality", precision),
    "abnormality recall": ("abnormality", recall),
    "abnormality F1": ("abnormality", f1_from_counts),
    "BLEU-1": ("bleu", lambda sums: bleu_from_counts(sums)[0]),
    "BLEU-4": ("bleu", lambda sums: bleu_from_counts(sums)[3]),
    "ROUGE-L": ("rouge", ratio),
    "clinical micro precision": ("clinical", precision),
    "clinical micro recall": ("clinical", recall),
    "clinical micro F1": ("clinical", f1_from_counts),
}
"""Each figure, the sums it is made of, and how."""


@dataclass(frozen=True)
class Answers:
    """What is said of ``N`` films, by drafts or by a baseline.

    Attributes:
        boxes: ``[N, 29, 4]`` in original pixels.
        detected: bool ``[N, 29]``.
        selected: bool ``[N, 29]``.
        called: bool ``[N, 29]``, called abnormal.
        findings: Findings section of each film.
        reports: The whole draft of each film.
    """

    boxes: FloatArray
    detected: NDArray[np.bool_]
    selected: NDArray[np.bool_]
    called: NDArray[np.bool_]
    findings: Sequence[str]
    reports: Sequence[str]


def score_run(cases: Sequence[Case], abnormal_threshold: float) -> dict[str, Any]:
    """Return the sums of a run's drafts, and its figures that are no sums.

    Args:
        cases: Drafts and references.
        abnormal_threshold: Probability from which the run calls a region abnormal.
    """
    arrays = region_arrays(cases)
    findings = [case.draft.findings for case in cases]
    answers = Answers(
        arrays.given.boxes,
        arrays.given.detected,
        arrays.selected,
        arrays.abnormal_probabilities >= abnormal_threshold,
        findings,
        [f"{case.draft.findings} {case.draft.impression}" for case in cases],
    )
    efficacy = clinical_figures([case.reference for case in cases], {"drafts": answers.reports})
    return {
        "sums": film_sums(cases, answers),
        "text": text_figures(cases, {"drafts": findings})["drafts"],
        "sentences": sentence_figures(findings),
        "never_right": efficacy["never_right"],
    }


def score_baselines(cases: Sequence[Case], known: Baselines) -> dict[str, dict[str, Any]]:
    """Return what needs no model: mean boxes, usual regions, all abnormal, each with one of three texts, as a run."""
    shape = (len(cases), NUM_REGIONS)
    boxes = mean_box_candidates(known.mean_boxes, region_arrays(cases).sizes)
    every, usual = np.ones(shape, dtype=bool), np.broadcast_to(known.usual_regions, shape)
    texts = {name: given for name, given in baseline_texts(cases, known).items() if name != "drafts"}
    figures, reports = text_figures(cases, texts), baseline_reports(cases, known)
    return {
        name: {
            "sums": film_sums(cases, Answers(boxes, every, usual, every, given, reports[name])),
            "text": figures[name],
            "sentences": sentence_figures(given),
        }
        for name, given in texts.items()
    }


def further_figures(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a run's row says besides ``FIGURES``.

    Args:
        row: Of ``score_run`` or ``score_baselines``, or what of it there is.

    Returns:
        Text figures by protocol, how long and different sentences are, and under ``IoU of REGION`` the mean over the
        films that show the region, NaN where none does.
    """
    found: dict[str, float] = {**row.get("text", {}), **row.get("sentences", {})}
    if "sums" in row:
        totals, counts = np.split(np.sum(row["sums"]["iou"], axis=0), 2)
        ious = np.divide(totals, counts, out=np.full(NUM_REGIONS, np.nan), where=counts > 0)
        found |= {f"{REGION_IOU}{name}": float(value) for name, value in zip(REGIONS, ious, strict=True)}
    return found


def film_sums(cases: Sequence[Case], answers: Answers) -> Sums:
    """Return by name of ``FIGURES``' sums what each film adds ``[N, K]``."""
    known = region_arrays(cases)
    iou = np.where(answers.detected, region_iou(answers.boxes, known.truth), 0.0)
    annotated = ~np.isnan(known.truth).any(axis=-1)
    judged = np.isfinite(known.is_abnormal)
    references = [case.reference.report.findings or "" for case in cases]
    has_findings = np.array([bool(reference) for reference in references])[:, None]
    wanted = [tokenize(reference, PROTOCOL) for reference in references]
    given = [tokenize(text, PROTOCOL) for text in answers.findings]
    rouge = rouge_l_per_report(given, wanted)
    labels = clinical.read_labels(list(answers.reports))
    sums = {
        "iou": np.concatenate([np.where(annotated, iou, 0.0), annotated], axis=1),
        "detected": np.stack([(answers.detected & annotated).sum(axis=1), annotated.sum(axis=1)], axis=1),
        "selection": decision_counts(answers.selected, known.has_phrase, known.is_told),
        "abnormality": decision_counts(answers.called, known.is_abnormal == 1, judged),
        "bleu": bleu_counts(given, wanted) * has_findings,
        "rouge": np.stack([rouge, np.ones(len(rouge))], axis=1) * has_findings,
        "clinical": clinical.micro_f1_counts(
            labels,
            [case.reference.labels for case in cases],
            counted=clinical.known_labels([case.reference for case in cases]),
        ),
    }
    return {name: np.round(value.astype(float), DIGITS).tolist() for name, value in sums.items()}


def summarise(runs: Mapping[str, Sequence[Sums]], patients: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return each figure of each architecture and of their difference, with 95 % intervals over patients.

    Args:
        runs: The sums of each architecture's runs, one per seed, on the same films.
        patients: Patient of each film.

    Returns:
        By figure, by architecture: ``mean`` over seeds with ``low`` and ``high``, and ``seeds``, each run's own value;
        with two architectures also ``difference``, the first minus the second, with ``low`` and ``high``.
    """
    return {figure: _figure(runs, patients, *FIGURES[figure]) for figure in FIGURES}


def _figure(
    runs: Mapping[str, Sequence[Sums]], patients: Sequence[str], kind: str, combine: Callable[[FloatArray], float]
) -> dict[str, Any]:
    by_name = {name: [np.array(sums[kind], dtype=float) for sums in given] for name, given in runs.items()}
    found: dict[str, Any] = {}
    for name, counts in by_name.items():
        low, high = _interval([(1.0 / len(counts), each) for each in counts], combine, patients)
        seeds = [combine(each.sum(axis=0)) for each in counts]
        found[name] = {"mean": float(np.mean(seeds)), "low": low, "high": high, "seeds": seeds}
    if len(by_name) == 2:
        (first, ours), (second, theirs) = by_name.items()
        weighted = [(1.0 / len(ours), each) for each in ours] + [(-1.0 / len(theirs), each) for each in theirs]
        low, high = _interval(weighted, combine, patients)
        found["difference"] = {"mean": found[first]["mean"] - found[second]["mean"], "low": low, "high": high}
    return found


def _interval(
    weighted: Sequence[tuple[float, FloatArray]], combine: Callable[[FloatArray], float], patients: Sequence[str]
) -> tuple[float, float]:
    """Return the interval of a weighted sum of one figure of several runs, resampled together."""
    num_sums = weighted[0][1].shape[1]

    def together(total: FloatArray) -> float:
        parts = total.reshape(len(weighted), num_sums)
        return float(sum(weight * combine(part) for (weight, _), part in zip(weighted, parts, strict=True)))

    return bootstrap_sums(np.concatenate([counts for _, counts in weighted], axis=1), together, patients)
