"""Evaluate a bundle on a part of a dataset and keep its scorecard."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from crrg.config.base import Settings
from crrg.config.references import BundleRef, DatasetRef, EvaluationResult
from crrg.config.running import EvaluateConfig
from crrg.data.pairs import resolve_dataset
from crrg.domain.study import Split
from crrg.evaluation.scorecard import Scorecard
from crrg.registry.aliases import resolve_bundle
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage
from crrg.tracking import open_tracker

logger = logging.getLogger(__name__)


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
        ConfigError: There is no such dataset.
    """
    bundle = resolve_bundle(config.model, storage, settings).ref
    result = evaluate_bundle(bundle, config, storage)
    with open_tracker(settings, storage, "evaluate", f"evaluate-{bundle.bundle_id[:12]}", tags) as tracker:
        tracker.log_params({"form": config.model_dump(mode="json"), "bundle_id": bundle.bundle_id})
        tracker.log_params({"dataset": result.dataset.name, "dataset_version": result.dataset.version})
        tracker.log_metrics(result.metrics)
        tracker.log_text("scorecard.json", storage.get(result.scorecard_key).decode())
        tracker.log_text("scorecard.md", storage.get(_markdown_key(result.scorecard_key)).decode())
    return result


def evaluate_bundle(bundle: BundleRef, config: EvaluateConfig, storage: Storage) -> EvaluationResult:
    """Score a bundle on the dataset, split and number of films of a form; an earlier scorecard of the same is reused.

    Args:
        bundle: What to score; the form's ``model`` is not looked at.
        config: Form of the evaluation.
        storage: Root.
    """
    dataset = resolve_dataset(storage, config.dataset, config.dataset_version)
    key = scorecard_key(bundle, dataset, config)
    reused = storage.exists(key)
    if reused:
        logger.info("bundle %s: scorecard on %s %s found, reused", bundle.bundle_id, dataset.name, config.split)
        scorecard = Scorecard.from_dict(storage.get_json(key))
    else:
        scorecard = _score(bundle, dataset, config, storage)
        storage.put(_markdown_key(key), scorecard.to_markdown().encode())
        storage.put_json(key, scorecard.to_dict())
    return EvaluationResult(
        bundle=bundle,
        dataset=dataset,
        split=config.split,
        metrics=scorecard.metrics,
        scorecard_key=key,
        reused=reused,
    )


def read_scorecard(result: EvaluationResult, storage: Storage) -> Scorecard:
    """Return the scorecard that an evaluation wrote."""
    return Scorecard.from_dict(storage.get_json(result.scorecard_key))


def scorecard_key(bundle: BundleRef, dataset: DatasetRef, config: EvaluateConfig) -> str:
    """Return where a scorecard lies: by bundle, dataset version, split and number of films."""
    films = f"-{config.limit}" if config.limit else ""
    return f"models/scorecards/{bundle.bundle_id}/{dataset.name}-{dataset.version}-{config.split}{films}.json"


def _score(bundle: BundleRef, dataset: DatasetRef, config: EvaluateConfig, storage: Storage) -> Scorecard:
    """Build the pipeline and score it; torch is imported here, so that a form can be built without it."""
    from crrg.device import resolve_device
    from crrg.inference.pipeline import ReportPipeline
    from crrg.operations.scoring import score_bundle

    pipeline = ReportPipeline.from_bundle(read_bundle(storage, bundle), resolve_device(config.device))
    return score_bundle(pipeline, dataset, storage, split=Split(config.split), limit=config.limit)


def _markdown_key(key: str) -> str:
    return key.removesuffix(".json") + ".md"
