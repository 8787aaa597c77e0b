"""The main figures of a scorecard as functions of the films that they are of, for groups of films.

Of drafts, and of what needs no model on the same films: the mean box, the usual regions, every region called abnormal,
the best constant report, the nearest training film's labels. Of labels there is the model's figure alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import FINDINGS, LabelValues
from crrg.domain.regions import NUM_REGIONS
from crrg.evaluation import clinical
from crrg.evaluation.bootstrap import Statistic, mean_statistic
from crrg.evaluation.classification import label_matrix, mean_auc
from crrg.evaluation.detection import mean_box_candidates
from crrg.evaluation.detection_figures import MEAN_BOX, Boxes, mean_of_regions, overlaps
from crrg.evaluation.protocols import Protocol, tokenize
from crrg.evaluation.text import bleu_counts, bleu_from_counts, rouge_l_per_report
from crrg.operations.scoring.cases import Baselines, Case
from crrg.operations.scoring.regions import region_arrays
from crrg.registry.gate import CLINICAL_F1, LABEL_AUC, REGION_IOU

PROTOCOL: Protocol = "rgrg"
BLEU_4, ROUGE_L = f"{PROTOCOL}/bleu_4", f"{PROTOCOL}/rouge_l"
SELECTION_F1, ABNORMALITY_F1 = "selection/f1", "abnormality/f1"
OfRows = Callable[[NDArray[np.int64]], float]
"""Row numbers of films to a figure of them; NaN where nothing is known of any."""


@dataclass(frozen=True)
class MainFigure:
    """One figure.

    Attributes:
        of_drafts: The drafts'.
        rival: Name of the baseline; empty without one.
        of_rival: The baseline's.
        known: Which films ``[B]``, or entries of films ``[B, K]``, the drafts' figure is made of; ``None`` for all.
    """

    of_drafts: OfRows
    rival: str = ""
    of_rival: OfRows | None = None
    known: NDArray[np.bool_] | None = None


def main_figures(
    cases: Sequence[Case], known: Baselines, neighbours: NDArray[np.int64], abnormal_threshold: float | None
) -> dict[str, MainFigure]:
    """Return the figures that a gate looks at, and those of texts, selection and abnormality, by name.

    Args:
        cases: Drafts and references.
        known: Baselines of the training dataset; those that need a training film are left out without one.
        neighbours: ``[B]``, row of the most similar training film of each case.
        abnormal_threshold: Probability from which a region is called abnormal; ``None`` leaves abnormality out.
    """
    num = len(FINDINGS)
    references = label_matrix([case.reference.labels for case in cases])[:, :num]
    probabilities = np.array([[case.draft.probabilities[label] for label in FINDINGS] for case in cases])
    return {
        **_region_figures(cases, known, abnormal_threshold),
        LABEL_AUC: MainFigure(
            lambda rows: mean_auc(probabilities[rows], references[rows]), known=np.isfinite(references)
        ),
        **_text_figures(cases, known),
        CLINICAL_F1: _clinical_figure(cases, known, neighbours),
    }


def _region_figures(cases: Sequence[Case], known: Baselines, abnormal_threshold: float | None) -> dict[str, MainFigure]:
    arrays = region_arrays(cases)
    shape = arrays.has_phrase.shape

    def iou_of(boxes: Boxes) -> MainFigure:
        iou = overlaps(boxes, arrays.truth)
        return MainFigure(lambda rows: mean_of_regions(iou[rows]), known=np.isfinite(iou))

    def selection_of(given: NDArray[np.bool_]) -> MainFigure:
        return _f1_of_wanted(clinical.decision_counts(np.broadcast_to(given, shape), arrays.has_phrase, arrays.is_told))

    def abnormality_of(called: NDArray[np.bool_]) -> MainFigure:
        counted = np.isfinite(arrays.is_abnormal) & arrays.given.detected
        return _f1_of_wanted(clinical.decision_counts(called, arrays.is_abnormal == 1, counted))

    iou, selection = iou_of(arrays.given), selection_of(arrays.selected)
    if known.is_fitted:
        mean_boxes = Boxes.constant(np.asarray(mean_box_candidates(known.mean_boxes, arrays.sizes), dtype=np.float64))
        iou = _beside(iou, MEAN_BOX, iou_of(mean_boxes))
        selection = _beside(selection, "usual regions", selection_of(known.usual_regions))
    figures = {REGION_IOU: iou, SELECTION_F1: selection}
    if abnormal_threshold is not None:
        called = abnormality_of(arrays.abnormal_probabilities >= abnormal_threshold)
        every = abnormality_of(np.ones((len(cases), NUM_REGIONS), dtype=np.bool_))
        figures[ABNORMALITY_F1] = _beside(called, "all abnormal", every)
    return figures


def _text_figures(cases: Sequence[Case], known: Baselines) -> dict[str, MainFigure]:
    """Return BLEU-4 and ROUGE-L; films without findings count for nothing."""
    references = [case.reference.report.findings or "" for case in cases]
    has_findings = np.array([bool(reference) for reference in references], dtype=np.bool_)
    wanted = [tokenize(reference, PROTOCOL) for reference in references]

    def of_texts(texts: Sequence[str]) -> dict[str, MainFigure]:
        given = [tokenize(text, PROTOCOL) for text in texts]
        bleu = Statistic(bleu_counts(given, wanted) * has_findings[:, None], lambda sums: bleu_from_counts(sums)[3])
        rouge = mean_statistic(np.where(has_findings, rouge_l_per_report(given, wanted), np.nan))
        return {
            BLEU_4: MainFigure(
                lambda rows: bleu.value(rows) if has_findings[rows].any() else float("nan"), known=has_findings
            ),
            ROUGE_L: MainFigure(rouge.value, known=has_findings),
        }

    of_drafts = of_texts([case.draft.findings for case in cases])
    if not known.is_fitted:
        return of_drafts
    of_constant = of_texts([known.constant] * len(cases))
    return {name: _beside(each, "best constant report", of_constant[name]) for name, each in of_drafts.items()}


def _clinical_figure(cases: Sequence[Case], known: Baselines, neighbours: NDArray[np.int64]) -> MainFigure:
    references: list[Mapping[str, int | None]] = [case.reference.labels for case in cases]
    counted = clinical.known_labels([case.reference for case in cases])

    def of_labels(given: Sequence[LabelValues]) -> MainFigure:
        counts = clinical.micro_f1_counts(given, references, counted)
        return MainFigure(Statistic(counts, clinical.f1_from_counts).value, known=counts > 0)

    drafts = clinical.read_labels([f"{case.draft.findings} {case.draft.impression}" for case in cases])
    if not known.is_fitted:
        return of_labels(drafts)
    others = clinical.read_labels([known.texts[row] for row in neighbours])
    return _beside(of_labels(drafts), "nearest neighbour", of_labels(others))


def _f1_of_wanted(counts: NDArray[np.float64]) -> MainFigure:
    """Return the F1 of hits, found and wanted ``[B, 3]``; NaN where nothing is wanted."""
    statistic = Statistic(counts, lambda sums: clinical.f1_from_counts(sums) if sums[2] else float("nan"))
    return MainFigure(statistic.value, known=counts > 0)


def _beside(drafts: MainFigure, rival: str, other: MainFigure) -> MainFigure:
    return replace(drafts, rival=rival, of_rival=other.of_drafts)
