"""Evaluate a bundle on a part of a dataset and keep its scorecard."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crrg.config.base import Settings
from crrg.config.references import BundleRef, DatasetRef, EvaluationResult
from crrg.config.running import EvaluateConfig
from crrg.data.dataset.batches import UNMENTIONED
from crrg.data.dataset.pairs import dataset_image_size, resolve_dataset
from crrg.data.dataset.spaced import sampled_films
from crrg.domain.bundle import recorded_image_size
from crrg.domain.labels import LABELS
from crrg.domain.study import Split
from crrg.errors import ConfigError
from crrg.evaluation.classification import label_matrix
from crrg.evaluation.meteor_jar import jar_digest
from crrg.evaluation.published import published_tables
from crrg.evaluation.scorecard import FIGURES_VERSION, Scorecard
from crrg.operations.scoring.cases import Case, fit_baselines, is_scorable
from crrg.operations.scoring.example_pictures import EXAMPLES, example_files
from crrg.operations.scoring.learnt_from import choose_films, learnt_from
from crrg.operations.stop import check_not_stopped
from crrg.registry.aliases import resolve_bundle
from crrg.registry.bundle import bundle_folder, read_bundle, read_spec
from crrg.registry.imported import import_digest
from crrg.storage import Storage
from crrg.tracking.runs import open_tracker
from crrg.training.tracker import Tracker

logger = logging.getLogger(__name__)

PICTURES = ("roc.png", "reliability.png")
"""Drawn beside a scorecard of films with labels."""


def evaluate(
    config: EvaluateConfig, storage: Storage, settings: Settings, *, tags: Mapping[str, str] | None = None
) -> EvaluationResult:
    """Resolve a model and a dataset, score the one on the other, and log the scorecard as a run.

    Args:
        config: Form of the evaluation.
        storage: Root.
        settings: Name the registry, if it is a server.
        tags: Ids for the tracked run.

    Raises:
        ModelError: There is no such model.
        ConfigError: There is no such dataset, or nothing in it that a draft could be scored on.
    """
    bundle = resolve_bundle(config.model, storage, settings).ref
    _refuse_unscorable(resolve_dataset(storage, config.dataset, config.dataset_version), Split(config.split), storage)
    result = evaluate_bundle(bundle, config, storage)
    with open_tracker(settings, storage, "evaluate", f"evaluate-{bundle.bundle_id[:12]}", tags) as tracker:
        tracker.log_params({"form": config.model_dump(mode="json"), "bundle_id": bundle.bundle_id})
        tracker.log_params({"dataset": result.dataset.name, "dataset_version": result.dataset.version})
        tracker.log_metrics(result.metrics)
        log_scorecard(result, storage, tracker)
    return result


def log_scorecard(result: EvaluationResult, storage: Storage, tracker: Tracker) -> None:
    """Log a scorecard as JSON, Markdown and tables, and what was drawn: ROC, reliability, and examples of drafts."""
    if storage.exists(result.scorecard_key):
        scorecard = read_scorecard(result, storage)
        tracker.log_text("scorecard.json", storage.get(result.scorecard_key).decode())
        tracker.log_text("scorecard.md", storage.get(_markdown_key(result.scorecard_key)).decode())
        tracker.log_table("scorecard-table.json", scorecard.to_table())
        tracker.log_table("published-table.json", scorecard.published_table())
    for folder, names in (("classification", PICTURES), ("examples", EXAMPLES)):
        for name in names:
            key = _beside(result.scorecard_key, f"-{name}")
            if not storage.exists(key):
                continue
            if name.endswith(".png"):
                tracker.log_picture(f"{folder}/{name}", storage.get(key))
            else:
                tracker.log_text(f"{folder}/{name}", storage.get(key).decode())


def evaluate_bundle(
    bundle: BundleRef, config: EvaluateConfig, storage: Storage, *, beside: BundleRef | None = None
) -> EvaluationResult:
    """Score a bundle on the dataset, split and number of films of a form; an earlier scorecard of the same is reused.

    Films of a test split that the bundle was trained, tuned or calibrated on are left out (``learnt_from``).

    Args:
        bundle: What to score; the form's ``model`` is not looked at.
        config: Form of the evaluation.
        storage: Root.
        beside: Another bundle that is scored on the same films: what it has seen is left out, too.

    Raises:
        CrrgError: An operator wants work to stop.
    """
    check_not_stopped(storage, "nothing was scored")
    dataset = resolve_dataset(storage, config.dataset, config.dataset_version)
    key = scorecard_key(bundle, dataset, config)
    if beside is not None:
        key = _beside(key, f"-beside-{beside.bundle_id}.json")
    stored = storage.get_json(key) if storage.exists(key) else {}
    reused = stored.get("figures_version") == FIGURES_VERSION
    if reused:
        logger.info("bundle %s: scorecard on %s %s found, reused", bundle.bundle_id, dataset.name, config.split)
        scorecard = Scorecard.from_dict(stored)
    else:
        scorecard, files = _score(bundle, dataset, config, storage, beside)
        for name, data in files.items():
            storage.put(_beside(key, f"-{name}"), data)
        storage.put(_markdown_key(key), scorecard.to_markdown().encode())
        storage.put_json(key, scorecard.to_dict())
    return EvaluationResult(
        bundle=bundle,
        dataset=dataset,
        split=config.split,
        metrics=scorecard.metrics,
        num_studies=scorecard.num_studies,
        num_left_out=scorecard.num_left_out,
        scorecard_key=key,
        reused=reused,
    )


def _refuse_unscorable(dataset: DatasetRef, split: Split, storage: Storage) -> None:
    """Refuse a split of which no film says what a draft of it should say, before anything is drafted."""
    if not any(is_scorable(pair) for pair, _ in sampled_films(storage, dataset, split)):
        counts = ", ".join(f"{part} {dataset.num_rows.get(part, 0)}" for part in Split)
        raise ConfigError(
            f"no frontal film of split {split} has a report with findings, a label or a box, so nothing can be scored "
            f"(rows: {counts}); name another split or dataset",
            f"dataset {dataset.name}",
        )


def read_scorecard(result: EvaluationResult, storage: Storage) -> Scorecard:
    """Return the scorecard that an evaluation wrote."""
    return Scorecard.from_dict(storage.get_json(result.scorecard_key))


def scorecard_key(bundle: BundleRef, dataset: DatasetRef, config: EvaluateConfig) -> str:
    """Return where a scorecard lies: by bundle, dataset version, split, number of films and what else reads texts.

    Raises:
        ConfigError: The form names a METEOR jar that is not there.
    """
    films = f"-{config.limit}-spread" if config.limit else ""
    readers = "".join(
        f"-{name}-{import_digest(Path(folder), name)[:12]}"
        for name, folder in (("chexbert", config.chexbert), ("radgraph", config.radgraph))
        if folder
    )
    if config.meteor_jar:
        readers += f"-meteor-{jar_digest(Path(config.meteor_jar))[:12]}"
    return f"models/scorecards/{bundle.bundle_id}/{dataset.name}-{dataset.version}-{config.split}{films}{readers}.json"


def _score(
    bundle: BundleRef, dataset: DatasetRef, config: EvaluateConfig, storage: Storage, beside: BundleRef | None
) -> tuple[Scorecard, dict[str, bytes]]:
    """Build the pipeline, score it and make what stands beside the scorecard.

    torch is imported here, so that a form can be built without it.
    """
    from crrg.device import resolve_device
    from crrg.inference.pipeline import ReportPipeline
    from crrg.operations.scoring.chexbert import with_chexbert
    from crrg.operations.scoring.radgraph import with_radgraph
    from crrg.operations.scoring.score import draft_cases, score_drafts
    from crrg.operations.scoring.texts import with_meteor
    from crrg.operations.scoring.visibility import with_visibility

    device = resolve_device(config.device)
    files, split = read_bundle(storage, bundle), Split(config.split)
    others = [read_spec(bundle_folder(storage, beside.prefix))] if beside is not None else []
    learnt = learnt_from([files.spec, *others], storage)
    scored = choose_films(list(sampled_films(storage, dataset, split, config.limit)), learnt, dataset, split)
    pipeline = ReportPipeline.from_bundle(files, device)
    cases, known = draft_cases(pipeline, scored.films), fit_baselines(storage, dataset)
    scorecard = score_drafts(pipeline, cases, known, dataset, storage, split)
    scorecard = replace(
        scorecard,
        remarks=(*scored.remarks, *_size_remarks(files.spec, dataset, storage), *scorecard.remarks),
        is_held_out=scored.is_held_out,
        num_left_out=scored.num_left_out,
    )
    scorecard = with_visibility(
        scorecard,
        pipeline,
        dataset,
        storage,
        split,
        is_scored=lambda pair: split is not Split.TEST or not learnt.has_seen(pair),
    )
    if config.chexbert:
        scorecard = with_chexbert(scorecard, cases, known, Path(config.chexbert), device)
    if config.radgraph:
        scorecard = with_radgraph(scorecard, cases, known, Path(config.radgraph), device)
    if config.meteor_jar:
        scorecard = with_meteor(scorecard, cases, known, Path(config.meteor_jar))
    scorecard = replace(scorecard, published=published_tables())
    return scorecard, {**_label_pictures(cases), **example_files(pipeline, cases)}


def _size_remarks(spec: Mapping[str, Any], dataset: DatasetRef, storage: Storage) -> tuple[str, ...]:
    """Say, and log, that a bundle's films are of another size; an older bundle that records none is believed."""
    own, trained = dataset_image_size(storage, dataset), recorded_image_size(spec)
    if not trained or own == trained:
        return ()
    remark = (
        f"films of another size: the dataset has at most {own} pixels on the longer side, the bundle was trained on "
        f"{trained} and nights decode to that; for figures of what it does there ingest with image_size = {trained}"
    )
    logger.warning("bundle %s on %s: %s", spec["bundle_id"], dataset.name, remark)
    return (remark,)


def _label_pictures(cases: Sequence[Case]) -> dict[str, bytes]:
    """Draw what ``PICTURES`` names of the drafts' probabilities; nothing where no label of a film is known."""
    from crrg.training.clip_pictures import reliability_picture, roc_picture

    references = label_matrix([case.reference.labels for case in cases])
    if not np.isfinite(references).any():
        return {}
    labels = np.where(np.isnan(references), UNMENTIONED, references).astype(np.int8)
    probabilities = np.array([[case.draft.probabilities[label] for label in LABELS] for case in cases])
    drawn = (roc_picture(probabilities, labels), reliability_picture(probabilities, labels))
    return dict(zip(PICTURES, drawn, strict=True))


def _markdown_key(key: str) -> str:
    return _beside(key, ".md")


def _beside(key: str, suffix: str) -> str:
    return key.removesuffix(".json") + suffix
