"""Are planted contradictions and real errors of drafts found by the consistency score and its flags?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.classification.contradictions import PLANTINGS, Planting, Worded, plant
from benchmarks.classification.readings import SplitReadings
from crrg.domain.labels import FINDINGS, LABELS, POSITIVE
from crrg.domain.sentences import split_sentences
from crrg.evaluation.bootstrap import bootstrap_interval
from crrg.evaluation.classification import roc_auc, sensitivity_at_specificity
from crrg.evaluation.labeler import label_report
from crrg.inference.consistency import consistency, region_contradictions, side_probabilities
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.reconciling import shown_findings
from crrg.inference.statements import read_statement
from crrg.inference.zero_shot import encode_texts

GROUPS: dict[str, tuple[Planting, ...]] = {
    "label": ("claimed", "denied"),
    "all_but_omitted": ("claimed", "denied", "sentence", "side"),
    "all": PLANTINGS,
}
"""Kinds that are told apart together: a label swapped either way, what changes a sentence, everything."""


def measure_consistency(_validation: SplitReadings, test: SplitReadings, pipeline: ReportPipeline) -> dict[str, Any]:
    """Score drafts as they are and with contradictions planted, with the label head's probabilities.

    Returns:
        Per kind of ``PLANTINGS`` and per group of kinds (``GROUPS``): how well planted drafts are told from the same
        drafts as they are.
    """
    probabilities = pipeline.calibration.probabilities(test.arrays["logits"])
    drafts = [Worded(row["findings"], row["impression"]) for row in test.rows]
    plain = _score(drafts, range(len(drafts)), test, probabilities, pipeline)
    others = [sentence for draft in drafts for sentence in split_sentences(draft.findings)]
    wrong = label_truth(test)
    found: dict[str, Any] = {}
    right: list[tuple[float, float, str, bool]] = []
    by_kind: dict[Planting, list[tuple[float, float, str, bool]]] = {}
    for kind in PLANTINGS:
        rng = np.random.default_rng(7)
        planted = {
            row: changed
            for row, draft in enumerate(drafts)
            if (changed := plant(draft.findings, kind, others, label_report, rng)) is not None
        }
        rows = list(planted)
        scored = _score(list(planted.values()), rows, test, probabilities, pipeline)
        own = [(plain[0][i], 0.0, test.rows[i]["patient_id"], bool(plain[1][i])) for i in rows]
        changed = [
            (score, 1.0, test.rows[i]["patient_id"], bool(flags))
            for i, score, flags in zip(rows, scored[0], scored[1], strict=True)
        ]
        by_kind[kind] = [*own, *changed]
        found[kind] = _told_apart(by_kind[kind])
        right += [pair for row, *pairs in zip(rows, own, changed, strict=True) if not wrong[row] for pair in pairs]
    for name, kinds in GROUPS.items():
        found[name] = _told_apart([row for kind in kinds for row in by_kind[kind]])
    found["all_in_right_drafts"] = _told_apart(right)
    found["real_errors"] = _real_errors(test, plain, wrong)
    return found


def label_truth(read: SplitReadings) -> NDArray[np.bool_]:
    """Return which drafts say of at least one finding the opposite of what is true of the film."""
    said = np.array([[label_report(text)[label] == POSITIVE for label in LABELS] for text in read.drafts()])
    truth, num = read.arrays["references"], len(FINDINGS)
    wrong = (said != (truth == 1)) & ~np.isnan(truth)
    return np.asarray(wrong[:, :num].any(axis=1))


def _score(
    drafts: Sequence[Worded],
    rows: Sequence[int],
    read: SplitReadings,
    probabilities: NDArray[np.float64],
    pipeline: ReportPipeline,
) -> tuple[list[float], list[tuple[str, ...]]]:
    """Return scores and flags of drafts, asked as ``ReportPipeline`` asks: labels of both sections, else findings."""
    features = encode_texts(pipeline.clip, pipeline.clip_tokenizer, [draft.findings for draft in drafts]).numpy()
    scores, flags = [], []
    shown = shown_findings(read.arrays["region_flags"])
    for draft, row, text_features in zip(drafts, rows, features, strict=True):
        said = label_report(draft.text)
        score, raised = consistency(
            dict(zip(LABELS, probabilities[row].tolist(), strict=True)),
            said,
            pipeline.similarity.agreement(float(text_features @ read.arrays["image_features"][row])),
            pipeline.film_thresholds,
            statements=[read_statement(sentence, label_report) for sentence in split_sentences(draft.findings)],
            sides=side_probabilities(read.arrays["finding_probabilities"][row]),
        )
        if pipeline.decoding.reconcile:
            raised += region_contradictions(said, [LABELS[i] for i in np.flatnonzero(shown[row])])
        scores.append(score)
        flags.append(raised)
    return scores, flags


def _told_apart(rows: list[tuple[float, float, str, bool]]) -> dict[str, float]:
    if not any(row[1] for row in rows):
        return {"num": 0.0}
    scores = -np.array([row[0] for row in rows])
    planted = np.array([row[1] for row in rows])
    flagged = np.array([row[3] for row in rows])
    low, high = bootstrap_interval(
        lambda drawn: roc_auc(scores[drawn], planted[drawn]), [row[2] for row in rows], num_samples=200
    )
    return {
        "num": float(planted.sum()),
        "auc": roc_auc(scores, planted),
        "auc_low": low,
        "auc_high": high,
        "found_at_10_percent_false_alarms": sensitivity_at_specificity(scores, planted, 0.9),
        "flagged": float(flagged[planted == 1].mean()),
        "false_alarms": float(flagged[planted == 0].mean()),
    }


def _real_errors(
    read: SplitReadings, plain: tuple[list[float], list[tuple[str, ...]]], wrong: NDArray[np.bool_]
) -> dict[str, float]:
    figures = _told_apart(
        [
            (score, float(is_wrong), row["patient_id"], bool(flags))
            for score, flags, is_wrong, row in zip(plain[0], plain[1], wrong, read.rows, strict=True)
        ]
    )
    is_flagged = np.array([bool(flags) for flags in plain[1]])
    return {**figures, "num_films": float(len(wrong)), "wrong_unflagged": float((wrong & ~is_flagged).sum())}
