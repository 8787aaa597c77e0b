"""The fused classifier beside label head, probe and zero-shot, over all films and by severity of what was drawn."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.classification.readings import SplitReadings
from benchmarks.classification.scores import fused, head, summary
from crrg.data.parquet import read_parquet
from crrg.domain.labels import FINDINGS, LABELS
from crrg.evaluation.classification import retrieval_recall, roc_auc
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.zero_shot import encode_texts, zero_shot_labels
from crrg.operations.scoring.labels import calibrated, judge_by_probe
from crrg.storage import Storage

GRADES = ("mild", "moderate", "severe")


def measure_fused(
    validation: SplitReadings, test: SplitReadings, source: str, pipeline: ReportPipeline
) -> dict[str, Any]:
    """Fit on validation, score on test; strata only where the cohort's folder is given.

    Args:
        validation: Films to fit on.
        test: Films to score.
        source: Folder of the test cohort with ``truth.parquet`` and ``reports.csv``; empty leaves the strata out.
        pipeline: The bundle, for zero-shot and retrieval.
    """
    references, patients = test.arrays["references"], test.patients()
    labels = validation.arrays["references"]
    model, mixed = fused(validation, test)
    chances, thresholds = head(validation.arrays["logits"], labels, test.arrays["logits"])
    features = [read.arrays["image_features"].astype(np.float64) for read in (validation, test)]
    texts = encode_texts(pipeline.clip, pipeline.clip_tokenizer, test.reports()).numpy().astype(np.float64)
    probe = judge_by_probe(features[0], labels, validation.patients(), features[1])
    zero_shot = calibrated(_zero_shot(features[0], pipeline), labels, _zero_shot(features[1], pipeline))
    found: dict[str, Any] = {
        "fused": summary(mixed, references, patients, model.thresholds, labels),
        "head": summary(chances, references, patients, thresholds, labels),
        "probe": summary(probe.probabilities, references, patients, probe.thresholds, labels),
        "zero_shot": summary(zero_shot.probabilities, references, patients, zero_shot.thresholds, labels),
        "retrieval": retrieval_recall(features[1] @ texts.T, test.reports()),
    }
    if source:
        severities = _severities(source, test)
        found["fused_by_severity"] = _by_severity(mixed, references, severities)
        found["head_by_severity"] = _by_severity(chances, references, severities)
        found["probe_by_severity"] = _by_severity(probe.probabilities, references, severities)
        found["zero_shot_by_severity"] = _by_severity(zero_shot.probabilities, references, severities)
    return found


def _zero_shot(features: NDArray[np.float64], pipeline: ReportPipeline) -> NDArray[np.float64]:
    """Return the probabilities ``[N, 14]`` of prompts on stored features."""
    films = torch.from_numpy(features.astype(np.float32))
    table = zero_shot_labels(pipeline.clip, pipeline.clip_tokenizer, films, LABELS)
    return torch.stack([table[label] for label in LABELS], dim=1).detach().numpy().astype(np.float64)


def _severities(source: str, test: SplitReadings) -> list[dict[str, str]]:
    """Return label to grade per film; a film is found by its report, one whose report is not its alone has none."""
    folder = Storage(source)
    truth = {row["study_id"]: row for row in read_parquet(folder.get("truth.parquet")).to_pylist()}
    rows = list(csv.DictReader(io.StringIO(folder.get("reports.csv").decode())))
    counts = Counter(_key(row["findings"] + row["impression"]) for row in rows)
    grades = {}
    for row in rows:
        key = _key(row["findings"] + row["impression"])
        if counts[key] == 1:
            drawn = truth[row["study_id"]]["drawn_findings"]
            grades[key] = {
                item["label"]: GRADES[min(2, int(item["severity"] * 3))]
                for item in sorted(drawn, key=lambda item: item["severity"])
            }
    return [grades.get(_key(report), {}) for report in test.reports()]


def _key(text: str) -> str:
    return "".join(text.lower().split())


def _by_severity(
    probabilities: NDArray[np.float64], references: NDArray[np.float64], severities: list[dict[str, str]]
) -> dict[str, Any]:
    found = {}
    for grade in GRADES:
        areas, num = [], 0
        for column, label in enumerate(FINDINGS):
            is_grade = np.array([grades.get(label) == grade for grades in severities])
            kept = (references[:, column] == 0) | is_grade
            num += int(is_grade.sum())
            areas.append(roc_auc(probabilities[kept, column], references[kept, column]))
        found[grade] = {"mean_auc": float(np.nanmean(areas)), "num_findings": float(num)}
    return found
