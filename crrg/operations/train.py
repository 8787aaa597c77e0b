"""Train one stage, with the stages it stands on: reused where they are finished, trained first where they are not."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from crrg.config.base import STAGES, Settings, Stage
from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import TrainStageConfig
from crrg.data.pairs import resolve_dataset
from crrg.storage import Storage
from crrg.tracking import ModelRegistry, Tracker, open_tracker

logger = logging.getLogger(__name__)

STANDS_ON: Mapping[Stage, tuple[Stage, ...]] = {
    "detector": (),
    "selector": ("detector",),
    "generator": ("detector", "selector"),
    "clip": (),
}


def train_stage(
    stage: Stage,
    config: TrainStageConfig,
    storage: Storage,
    settings: Settings,
    *,
    upstream: Sequence[StageResult] = (),
    tags: Mapping[str, str] | None = None,
) -> StageResult:
    """Train a stage, log it as one run, and register its weights.

    Args:
        stage: detector, selector, generator or clip.
        config: Form of the stage.
        storage: Root with ``datasets/`` and ``checkpoints/``.
        settings: Name the tracking server, if there is one.
        upstream: Finished stages it stands on; one that is not given is found by its settings, or trained.
        tags: Ids for the tracked run, e.g. of the orchestrator's run.

    Returns:
        The finished stage with its tracking run and registered version; an equal earlier one is reused.

    Raises:
        ConfigError: There is no such dataset, or no place to track runs.
        TrainingError: The stage could not be trained.
    """
    dataset = resolve_dataset(storage, config.dataset, config.dataset_version)
    finished = {result.stage: result for result in upstream}
    for needed in STANDS_ON[stage]:
        if needed not in finished:
            known = tuple(finished.values())
            finished[needed] = train_stage(needed, config, storage, settings, upstream=known, tags=tags)
    run_tags = {**(tags or {}), "stage": stage, "dataset": dataset.name, "dataset_version": dataset.version}
    run_name = f"{stage}-{dataset.name}-{config.preset}-{config.seed}"
    logger.info("stage %s: dataset %s version %s, preset %s", stage, dataset.name, dataset.version, config.preset)
    with open_tracker(settings, storage, f"train-{stage}", run_name, run_tags) as tracker:
        result = _train(stage, config, dataset, finished, storage, tracker)
        if not result.reused:
            tracker.log_params({"form": config.model_dump(mode="json")})
            tracker.log_metrics({**result.metrics, "train/duration_s": result.duration_s})
    return result.model_copy(update={"model_version": ModelRegistry(settings, storage).register_stage(result)})


def train_stages(
    config: TrainStageConfig, storage: Storage, settings: Settings, *, tags: Mapping[str, str] | None = None
) -> tuple[StageResult, ...]:
    """Train all four stages in order, each on the finished ones before it."""
    results: tuple[StageResult, ...] = ()
    for stage in STAGES:
        results += (train_stage(stage, config, storage, settings, upstream=results, tags=tags),)
    return results


def _train(
    stage: Stage,
    config: TrainStageConfig,
    dataset: DatasetRef,
    finished: Mapping[str, StageResult],
    storage: Storage,
    tracker: Tracker,
) -> StageResult:
    """Call the stage's function; torch is imported here, so that a form can be built without it."""
    if stage == "detector":
        from crrg.training.detector import train_detector

        return train_detector(config, dataset, storage, tracker)
    if stage == "selector":
        from crrg.training.selector import train_selector

        return train_selector(config, dataset, finished["detector"], storage, tracker)
    if stage == "generator":
        from crrg.training.generator import train_generator

        return train_generator(config, dataset, finished["detector"], finished["selector"], storage, tracker)
    from crrg.training.clip import train_clip

    return train_clip(config, dataset, storage, tracker)
