"""Train one stage, with the stages it stands on: reused where they are finished, trained first where they are not."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from crrg.config.base import STAGES, Settings, Stage
from crrg.config.references import DatasetRef, StageResult
from crrg.config.resolved import check_settings
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.pairs import dataset_image_size, resolve_dataset
from crrg.data.privacy.forgotten import is_removed_from
from crrg.errors import StorageError
from crrg.ledger.audit import write_audit
from crrg.operations.drafter import Drafter
from crrg.operations.registry.assemble import assemble_bundle, parts_of
from crrg.operations.spool import TrackedRun, keep_figures, send_waiting
from crrg.operations.stop import check_not_stopped
from crrg.operations.training.ranks import check_ranks, train_in_ranks
from crrg.operations.training.training_drafts import TrainingDrafts, draft_training_films
from crrg.progress import span
from crrg.registry.bundle import bundle_folder, read_bundle, read_spec
from crrg.storage import Storage
from crrg.tracking.models import ModelRegistry
from crrg.tracking.runs import open_tracker
from crrg.training.tracker import Entry, PatientTracker, Tracker

logger = logging.getLogger(__name__)

STANDS_ON: Mapping[Stage, tuple[Stage, ...]] = {
    "detector": (),
    "selector": ("detector",),
    "generator": ("detector", "selector"),
    "clip": (),
    "joint": STAGES,
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
        stage: detector, selector, generator, clip or joint.
        config: Form of the stage.
        storage: Root with ``datasets/`` and ``checkpoints/``.
        settings: Name the tracking server, if there is one.
        upstream: Finished stages it stands on; one that is not given is found by its settings, or trained.
        tags: Ids for the tracked run, e.g. of the orchestrator's run.

    Returns:
        The finished stage with its tracking run and registered version; an equal earlier one is reused.

    Raises:
        ConfigError: There is no such dataset, no place to track runs, or none for the ranks asked for; the form
            contradicts itself, or imported weights do not suit it or each other.
        CrrgError: An operator wants work to stop.
        TrainingError: The stage could not be trained.
    """
    check_ranks(stage, config)
    check_settings((*STANDS_ON[stage], stage), config)
    if not upstream:
        check_starts((*STANDS_ON[stage], stage), config)
    dataset = resolve_dataset(storage, config.dataset, config.dataset_version)
    finished = {result.stage: result for result in upstream}
    for needed in STANDS_ON[stage]:
        if needed not in finished:
            finished[needed] = _train(needed, config, dataset, finished, storage, settings, tags or {})
    result = _train(stage, config, dataset, finished, storage, settings, tags or {})
    how = "finished before, reused" if result.reused else f"trained in {span(result.duration_s)}"
    version = f", version {result.model_version} of crrg-{result.part}" if result.model_version else ""
    logger.info("%s: %s%s", stage, how, version)
    return result


def train_stages(
    stages: Sequence[Stage],
    config: TrainStageConfig,
    storage: Storage,
    settings: Settings,
) -> tuple[StageResult, ...]:
    """Train stages in the given order, each on the finished ones before it."""
    results: tuple[StageResult, ...] = ()
    for stage in stages:
        results += (train_stage(stage, config, storage, settings, upstream=results),)
    return results


def check_starts(stages: Sequence[Stage], config: TrainStageConfig) -> None:
    """Refuse imported weights for the paper's stages that do not suit each other, before any stage is trained.

    Args:
        stages: What is going to be trained on this machine.
        config: Form of the stages.

    Raises:
        ConfigError: They do not; the message names the field and the way out.
        ModelError: A folder was not written by an import.
    """
    if config.recipe == "paper":
        from crrg.training.paper_starts import check_paper_starts

        check_paper_starts(stages, config)


def _train(
    stage: Stage,
    config: TrainStageConfig,
    dataset: DatasetRef,
    finished: Mapping[str, StageResult],
    storage: Storage,
    settings: Settings,
    tags: Mapping[str, str],
) -> StageResult:
    """Train one stage on finished ones, in this process or in several ranks, unless an operator wants work to stop."""
    check_not_stopped(storage, "finished stages are kept")
    if config.num_ranks == 1:
        return train_here(stage, config, dataset, finished, storage, settings, tags)
    return train_in_ranks(stage, config, dataset, storage, tags)


def train_here(
    stage: Stage,
    config: TrainStageConfig,
    dataset: DatasetRef,
    finished: Mapping[str, StageResult],
    storage: Storage,
    settings: Settings,
    tags: Mapping[str, str],
) -> StageResult:
    """Train one stage in this process as one tracked run, or find it finished, and register it.

    Args:
        stage: detector, selector, generator, clip or joint.
        config: Form of the stage.
        dataset: Version to train on.
        finished: The stages it stands on.
        storage: Root.
        settings: Name the tracking server, if there is one.
        tags: Ids for the tracked run.

    Raises:
        StorageError: The tracking server is away at the start, or when the finished stage is to be registered: an equal
            command finds it finished then, and sends the figures that waited. In between training goes on without it.
        TrainingError: The stage could not be trained.
    """
    run_tags = {**tags, "stage": stage, "dataset": dataset.name, "dataset_version": dataset.version}
    run_name = f"{stage}-{dataset.name}-{config.preset}-{config.seed}"
    try:
        send_waiting(storage, settings)
    except StorageError as error:  # away, or not for this identity to read: a night sends it
        logger.info("what waits in the spool is sent later: %s", error.reason)
    with open_tracker(settings, storage, f"train-{stage}", run_name, run_tags) as run:
        tracker = PatientTracker(run, may_show=lambda: not is_removed_from(storage, dataset))

        def keep(left: Sequence[Entry]) -> None:
            if left:
                begun = TrackedRun(experiment=f"train-{stage}", run_name=run_name, tags=run_tags, run_id=tracker.run_id)
                keep_figures(begun, left, storage)

        try:
            result = fit_stage(stage, config, dataset, finished, storage, tracker)
        except BaseException:
            with suppress(StorageError):  # what ended the training is told
                keep(tracker.waiting)  # and the server is not asked: who is told to end has no time for it
            raise
        if not result.reused:
            # before the tracking server is asked again, which may be away: next time the stage is found finished
            write_audit(
                storage,
                "train",
                subject=result.prefix,
                inputs=(dataset.version, *(finished[name].sha256 for name in sorted(finished))),
                writes={f"{result.prefix}/model.safetensors": result.sha256},
            )
            tracker.log_params({"form": config.model_dump(mode="json")})
            tracker.log_metrics({**result.metrics, "train/duration_s": result.duration_s})
            keep(tracker.close())
    registry = ModelRegistry(settings, storage)
    beside = tuple(each.model_copy(update={"model_version": registry.register_stage(each)}) for each in result.beside)
    return result.model_copy(update={"model_version": registry.register_stage(result), "beside": beside})


def fit_stage(
    stage: Stage,
    config: TrainStageConfig,
    dataset: DatasetRef,
    finished: Mapping[str, StageResult],
    storage: Storage,
    tracker: Tracker,
) -> StageResult:
    """Call the stage's function; torch is imported here, so that a form can be built without it.

    Of a part that several finished stages have made, as the paper's detector, the last counts.
    """
    finished = {**finished, **parts_of([finished[name] for name in STAGES if name in finished])}
    if config.recipe == "paper" and stage in ("selector", "generator"):
        from crrg.training.paper_stages import train_paper_generator, train_paper_selector

        if stage == "selector":
            return train_paper_selector(config, dataset, finished["detector"], storage, tracker)
        return train_paper_generator(config, dataset, finished, storage, tracker)
    if stage == "detector":
        from crrg.training.detector import train_detector

        return train_detector(config, dataset, storage, tracker)
    if stage == "selector":
        from crrg.training.selector import train_selector

        return train_selector(config, dataset, finished["detector"], storage, tracker)
    if stage == "generator":
        from crrg.training.generator import train_generator

        return train_generator(config, dataset, finished["detector"], finished["selector"], storage, tracker)
    if stage == "clip":
        from crrg.training.clip import train_clip

        return train_clip(config, dataset, storage, tracker)
    if config.rounds.max_rounds:
        from crrg.operations.training.joint_loop import JointLoop

        return JointLoop(config, dataset, finished, storage, tracker).run()
    from crrg.training.joint import train_joint

    drafts = _training_drafts(config, dataset, finished, storage)
    return train_joint(config, dataset, drafts.texts, storage, tracker, origin=drafts.origin)


def _training_drafts(
    config: TrainStageConfig, dataset: DatasetRef, finished: Mapping[str, StageResult], storage: Storage
) -> TrainingDrafts:
    """Put the finished stages together as a bundle and let it draft the training films."""
    image_size = dataset_image_size(storage, dataset)
    bundle = assemble_bundle([finished[name] for name in STAGES], dataset.version, image_size, storage)

    from crrg.device import resolve_device
    from crrg.inference.pipeline import ReportPipeline, decoding_on

    device = resolve_device(config.device)

    def make_drafter() -> Drafter:
        return ReportPipeline.from_bundle(read_bundle(storage, bundle), device)

    decoding = decoding_on(device.type, read_spec(bundle_folder(storage, bundle.prefix)))
    return draft_training_films(dataset, bundle.bundle_id, decoding, storage, make_drafter)
