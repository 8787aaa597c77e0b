"""Variants of the joint rounds, CLIP trained again in each: validation curves, and every round on the test films."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from crrg.config.base import STAGES
from crrg.config.references import StageResult
from crrg.config.training import JointRounds, TrainStageConfig
from crrg.data.dataset.pairs import resolve_dataset
from crrg.domain.film_labels import FilmLabels
from crrg.domain.labels import FINDINGS
from crrg.domain.study import Film, Pair
from crrg.evaluation import clinical, text
from crrg.evaluation.bootstrap import bootstrap_interval, bootstrap_sums
from crrg.evaluation.classification import label_matrix, mean_auc
from crrg.evaluation.protocols import tokenize
from crrg.inference.pipeline import ReportPipeline
from crrg.operations.scoring.labels import read_in_chunks
from crrg.operations.training.joint_loop import JointLoop, JointState
from crrg.registry.bundle import read_spec
from crrg.storage import Storage
from crrg.training.tracker import NullTracker

NUM_FINDINGS = len(FINDINGS)
CHUNK_SIZE = 64
VARIANTS: Mapping[str, dict[str, Any]] = {
    "CLIP ranks, labeler checks": {"prefer": "checked"},
    "CLIP ranks, no check": {"prefer": "ranked"},
    "CLIP ranks, labeler checks, film's flags": {"prefer": "checked", "film_flags": True},
    "control: real phrases only": {"prefer": "real"},
}


def finished_stages(storage: Storage, bundle_id: str) -> dict[str, StageResult]:
    """Return the stages that a bundle was made of."""
    checkpoints = read_spec(storage.child(f"models/bundles/{bundle_id}"))["checkpoints"]
    keys = {stage: f"checkpoints/{stage}/{checkpoints[stage]}/result.json" for stage in STAGES}
    return {stage: StageResult.model_validate(storage.get_json(key)) for stage, key in keys.items()}


def run_variant(
    name: str,
    stages: Mapping[str, StageResult],
    form: TrainStageConfig,
    films: Sequence[tuple[Pair, Film]],
    storage: Storage,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Run one variant's rounds and score every round on the test films; finished pieces are found again.

    Round 0 is the paper's coupling: drafts of the generator as it is, CLIP trained on them mixed with reports.

    Args:
        name: One of ``VARIANTS``.
        stages: The four stages that the rounds stand on.
        form: Dataset, preset, and steps of CLIP.
        films: Test films that every round is scored on.
        storage: Root.
        settings: Further settings of the rounds: number, films, steps.
    """
    form = form.model_copy(update={"rounds": JointRounds(**{**settings, **VARIANTS[name]})})
    train = resolve_dataset(storage, form.dataset, form.dataset_version)
    loop = JointLoop(form, train, stages, storage, NullTracker())
    found = loop.run_rounds()
    return {
        "validation": [item.score for item in found],
        "kept": max(found, key=lambda item: item.score).number,
        "rounds": [{**_validation(loop, item.state), **_test(loop, item.state, films, storage)} for item in found],
    }


def _validation(loop: JointLoop, state: JointState) -> dict[str, float]:
    return {f"validation {name}": value for name, value in loop.score_parts(state).items()}


def _test(loop: JointLoop, state: JointState, pairs: Sequence[tuple[Pair, Film]], storage: Storage) -> dict[str, Any]:
    bundle = loop.bundle(state.generator, state.clip)
    key = f"classification/rounds/{bundle.bundle_id}-{loop.decoding(bundle).reconcile}-{len(pairs)}.json"
    if not storage.exists(key):
        storage.put_json(key, score_drafts_and_labels(loop.pipeline(bundle), pairs))
    return dict(storage.get_json(key))


def score_drafts_and_labels(pipeline: ReportPipeline, pairs: Sequence[tuple[Pair, Film]]) -> dict[str, Any]:
    """Return clinical F1 and BLEU-4 of drafts, and AUC of label head and zero-shot, with 95 % intervals."""
    films = [film for _, film in pairs]
    reports, said = [], []
    for first in range(0, len(films), CHUNK_SIZE):
        made = pipeline.make_drafts(films[first : first + CHUNK_SIZE])
        reports += [findings for findings, _ in made.reports]
        said += made.said
    patients = [pair.patient_id for pair, _ in pairs]
    known = clinical.known_labels([pair for pair, _ in pairs])
    counts = clinical.micro_f1_counts(said, [pair.labels for pair, _ in pairs], counted=known)
    low, high = bootstrap_sums(counts, clinical.f1_from_counts, patients)
    tokens = [
        [tokenize(item, "rgrg") for item in items] for items in (reports, [p.report.findings or "" for p, _ in pairs])
    ]
    labels = read_in_chunks(pipeline, films)
    references = label_matrix([pair.labels for pair, _ in pairs])
    return {
        "f1": clinical.f1_from_counts(counts.sum(axis=0)),
        "f1_low": low,
        "f1_high": high,
        "bleu_4": text.bleu(tokens[0], tokens[1])[3],
        **_areas(labels, references, patients),
    }


def _areas(labels: FilmLabels, references: np.ndarray, patients: Sequence[str]) -> dict[str, float]:
    found = {}
    for name, chances in {"auc": labels.head, "zero_shot_auc": labels.zero_shot}.items():

        def area(rows: np.ndarray, chances: np.ndarray = chances) -> float:
            return mean_auc(chances[rows, :NUM_FINDINGS], references[rows, :NUM_FINDINGS])

        found[name] = area(np.arange(len(references)))
        found[f"{name}_low"], found[f"{name}_high"] = bootstrap_interval(area, patients, num_samples=200)
    return found


def decoding_variants(pipeline: ReportPipeline, pairs: Sequence[tuple[Pair, Film]]) -> dict[str, Any]:
    """Return the drafts' figures as they are, re-ranked by image-text agreement, and with other findings."""

    def decoded(**changes: bool) -> ReportPipeline:
        return replace(pipeline, decoding=pipeline.decoding.model_copy(update=changes))

    variants = {
        "as they are": pipeline,
        "re-ranked": decoded(rerank=True),
        "findings by the regions": decoded(reconcile=False),
        "findings by the film's labels": replace(decoded(reconcile=True), findings=None),
    }
    return {name: score_drafts_and_labels(variant, pairs) for name, variant in variants.items()}
