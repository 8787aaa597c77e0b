"""Make a bundle of four finished stages, and register it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from crrg.config.base import Settings
from crrg.config.bundling import BundleConfig
from crrg.config.references import BundleRef, DatasetRef, EvaluationResult, StageResult
from crrg.config.running import RetrainConfig
from crrg.data.dataset.pairs import dataset_image_size, resolve_dataset
from crrg.domain.bundle import BundleFiles
from crrg.ledger.audit import write_audit
from crrg.operations.registry.given_parts import GivenEncoder
from crrg.operations.scoring.evaluate import log_scorecard
from crrg.operations.stop import check_not_stopped
from crrg.operations.summaries import evaluation_markdown
from crrg.operations.training.fast_gate import check_fast
from crrg.operations.training.fuse import fit_findings, fit_fusion
from crrg.operations.training.watch_reference import reference_bytes
from crrg.registry.aliases import CANDIDATE
from crrg.registry.bundle import (
    BUNDLE_FILE,
    CARD_FILE,
    WEIGHT_FILES,
    commit_bundle,
)
from crrg.registry.composing import (
    compose_bundle,
    with_decoding,
    with_fast_devices,
    with_findings,
    with_fusion,
    with_metrics,
    with_reference,
    with_sentence_encoder,
    write_bundle,
)
from crrg.storage import Storage
from crrg.tracking.models import PIPELINE_MODEL, ModelRegistry
from crrg.tracking.runs import open_tracker
from crrg.working_folder import working_folder

logger = logging.getLogger(__name__)

MODEL_FILE = Path(__file__).with_name("bundle_model.py")
"""What MLflow stores of the bundle's code; not imported here, since it imports mlflow."""


def assemble_bundle(
    results: Sequence[StageResult], dataset_version: str, image_size: int, storage: Storage
) -> BundleRef:
    """Put four finished stages into one bundle folder, without a fused classifier.

    Args:
        results: detector, selector, generator and clip; a later one takes the place of an earlier one of the same
            part, as ``joint`` does of ``clip``.
        dataset_version: What they were trained on.
        image_size: Longer side of its films, pixels.
        storage: Root with their checkpoints.

    Raises:
        ModelError: A stage is missing or incomplete, or was trained on other parts than those beside it.
    """
    return write_bundle(storage, parts_of(results), dataset_version=dataset_version, image_size=image_size)


def assemble_fused(
    results: Sequence[StageResult],
    config: RetrainConfig | BundleConfig,
    storage: Storage,
    *,
    encoder: GivenEncoder | None = None,
) -> BundleRef:
    """Put four finished stages into one bundle folder, with the classifier over film, draft and regions.

    The classifier is fitted on drafts of the dataset's validation films; without any it is left out. The bundle also
    says what its training population looks like, with which its nights are compared. Drafts are searched as the form
    says; rounded weights have to pass their gate (``fast_gate``).

    Args:
        results: As for ``assemble_bundle``.
        config: Form of the retraining or of the bundle, with the dataset's version pinned.
        storage: Root with their checkpoints and the dataset.
        encoder: Finds repeated sentences where drafts are assembled as published; shared words where not given.

    Raises:
        ConfigError: The form's search of drafts is out of limits, or an encoder is given and would not be asked.
        CrrgError: An operator wants work to stop.
        GateNotMet: Rounded weights are asked for, and their drafts differ too much from the exact ones.
        ModelError: A stage is missing or incomplete, or was trained on other parts than those beside it.
    """
    check_not_stopped(storage, "finished stages are kept")
    dataset = resolve_dataset(storage, config.dataset, config.dataset_version)
    image_size = dataset_image_size(storage, dataset)
    bundle = compose_bundle(storage, parts_of(results), dataset_version=dataset.version, image_size=image_size)
    _warn_of_enlarged_films(bundle)
    bundle = with_decoding(bundle, config.decoding)
    bundle = _with_findings(bundle, dataset, config, storage)
    bundle = with_sentence_encoder(bundle, encoder.config, encoder.files) if encoder else bundle
    if bundle.spec["decoding"]["precision"] == "fast":
        passed = check_fast(bundle, dataset, config.device, storage)
        bundle = with_fast_devices(with_metrics(bundle, "generator", passed.figures), passed.kinds)
    fusion = fit_fusion(bundle, dataset, config.fusion, config.device, storage)
    bundle = with_fusion(bundle, fusion) if fusion else bundle
    return commit_bundle(storage, with_reference(bundle, reference_bytes(bundle, dataset, storage, config.device)))


def _with_findings(
    bundle: BundleFiles, dataset: DatasetRef, config: RetrainConfig | BundleConfig, storage: Storage
) -> BundleFiles:
    """Let drafts state the findings of the whole film, where that is asked for or gains on validation films."""
    decoding = bundle.spec["decoding"]
    if config.decoding.reconcile is False or (decoding["compat"] == "rgrg" and not decoding["reconcile"]):
        return bundle
    findings = fit_findings(bundle, dataset, config.fusion, config.device, storage)
    if findings is None:
        return bundle
    metrics = findings["metrics"]
    is_used = decoding["reconcile"] or metrics.get("findings/gain_low", 0.0) > 0
    logger.info(
        "findings of validation films: F1 %.3f by the regions, %.3f by film and regions together; drafts follow %s",
        metrics["findings/regions_micro_f1"], metrics["findings/reconciled_micro_f1"],
        "both" if is_used else "the regions",
    )  # fmt: skip
    return with_findings(bundle, findings, is_used=is_used)


def _warn_of_enlarged_films(bundle: BundleFiles) -> None:
    """Say which parts read larger films than the bundle decodes; they see no more than the small ones hold."""
    sizes = {name: int(config["architecture"].get("input_size", 0)) for name, config in bundle.spec["stages"].items()}
    larger = {name: size for name, size in sizes.items() if size > bundle.image_size}
    if larger:
        logger.warning(
            "films of the dataset have %d pixels on the longer side, less than %s read, so they are enlarged, at night "
            "too; ingest the dataset with image_size = %d and assemble the bundle on that",
            bundle.image_size,
            " and ".join(f"{name} ({size})" for name, size in larger.items()),
            max(larger.values()),
        )


def parts_of(results: Sequence[StageResult]) -> dict[str, StageResult]:
    """Return part of a bundle to the last result that makes it, parts made beside others included."""
    return {each.part: each for result in results for each in (result, *result.beside)}


def register_bundle(
    evaluation: EvaluationResult, storage: Storage, settings: Settings, *, tags: Mapping[str, str] | None = None
) -> BundleRef:
    """Register an evaluated bundle as a version of ``crrg-pipeline`` and point the candidate alias to it.

    Args:
        evaluation: The bundle and its figures.
        storage: Root with the bundle.
        settings: Name the registry, if it is a server.
        tags: Ids for the tracked run and the version.

    Returns:
        The bundle with its version; an equal bundle keeps the version it has.
    """
    bundle, registry = evaluation.bundle, ModelRegistry(settings, storage)
    version = registry.find_version(PIPELINE_MODEL, {"bundle_id": bundle.bundle_id})
    version = version or _register(evaluation, registry, storage, settings, tags or {})
    registry.set_alias(CANDIDATE, version)
    logger.info("bundle %s is version %s of crrg-pipeline", bundle.bundle_id, version)
    return bundle.model_copy(update={"model_version": version})


def _register(
    evaluation: EvaluationResult, registry: ModelRegistry, storage: Storage, settings: Settings, tags: Mapping[str, str]
) -> str:
    """Log a bundle as one run and register it; return its version."""
    bundle = evaluation.bundle
    dataset = {"dataset": evaluation.dataset.name, "dataset_version": evaluation.dataset.version}
    about = {**tags, **dataset}
    folder = storage.child(bundle.prefix)
    with open_tracker(settings, storage, "retrain", f"bundle-{bundle.bundle_id[:12]}", about) as tracker:
        tracker.log_params({"bundle_id": bundle.bundle_id, **dataset})
        tracker.log_metrics(evaluation.metrics)
        tracker.log_text(CARD_FILE, folder.get(CARD_FILE).decode())
        log_scorecard(evaluation, storage, tracker)
        files: dict[str, str] = folder.get_json(BUNDLE_FILE)["files"]
        with working_folder() as temporary:
            folder.download([BUNDLE_FILE, *files], temporary)
            page = evaluation_markdown(evaluation)
            version = registry.register_bundle(bundle, temporary, MODEL_FILE, tracker.run_id, about, page)
        spec_key = f"{bundle.prefix}/{BUNDLE_FILE}"
        write_audit(
            storage,
            "register",
            subject=version,
            bundle_id=bundle.bundle_id,
            inputs=(evaluation.dataset.version,),
            writes={key: storage.sha256(key) for key in (spec_key, evaluation.scorecard_key) if storage.exists(key)},
        )
        # last: a run of which no version came is nobody's parent
        tracker.adopt({part: registry.training_run(part, files[file]) for part, file in WEIGHT_FILES.items()})
    return version
