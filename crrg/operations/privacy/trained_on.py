"""What was made of a dataset version: checkpoints, bundles, registered models, and pictures that runs logged of it.

A bundle says what it was trained on, and so does a checkpoint; a tracked run carries the version as a tag, and finds
checkpoints that do not say it. Deleted runs count, since their files stay. Reads only, but for ``delete_pictures``.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

from crrg.config.base import Settings
from crrg.config.references import StageResult
from crrg.registry.bundle import dataset_versions
from crrg.registry.stage_files import CONFIG_FILE, RESULT_FILE
from crrg.storage import Storage
from crrg.tracking.client import EVERY_STATE, delete_artifact, mlflow_client
from crrg.tracking.models import MODELS, ModelRegistry

PICTURES = ("card/samples.png", "detector_boxes.png")
"""Artifacts that show films of a dataset."""
RUNS_AT_ONCE = 500
BUNDLES, CHECKPOINTS = "models/bundles", "checkpoints"


def models_trained_on(storage: Storage, settings: Settings, versions: Set[str]) -> tuple[str, ...]:
    """Return checkpoints, bundles and registered versions that were trained on any of some dataset versions, sorted.

    Args:
        storage: The root.
        settings: Name the tracking server, if there is one.
        versions: Dataset versions, of whichever dataset.

    Raises:
        ConfigError: The root is in an object store and no tracking server is named.
        StorageError: Root or tracking server is out of reach.
    """
    if not versions:
        return ()
    found: set[str] = set()
    for name in storage.list_folder(BUNDLES):
        key = f"{BUNDLES}/{name}/bundle.json"
        if storage.exists(key) and versions & set(dataset_versions(spec := storage.get_json(key))):
            found.add(f"bundle {name}")
            found |= {f"checkpoint {stage}/{folder}" for stage, folder in spec["checkpoints"].items()}
    runs: set[str] = set()
    if ModelRegistry(settings, storage).exists():
        runs = {str(run.info.run_id) for run in _runs(storage, settings, versions)}
        found |= set(_registered(storage, settings, versions, runs))
    found |= set(_checkpoints(storage, versions, runs))
    return tuple(sorted(found))


def delete_pictures(storage: Storage, settings: Settings, versions: Set[str]) -> int:
    """Remove what tracked runs show of films of some dataset versions; return how many pictures went.

    Which films a picture shows is not recorded, so every picture of these versions goes.

    Args:
        storage: The root.
        settings: Name the tracking server, if there is one.
        versions: Dataset versions.

    Raises:
        StorageError: The tracking server is out of reach.
    """
    if not versions or not ModelRegistry(settings, storage).exists():
        return 0
    return sum(
        delete_artifact(settings, storage, run.info.artifact_uri, name)
        for run in _runs(storage, settings, versions)
        for name in PICTURES
    )


def _runs(storage: Storage, settings: Settings, versions: Set[str]) -> Iterator[Any]:
    client = mlflow_client(settings, storage)
    experiments = [each.experiment_id for each in client.search_experiments(view_type=EVERY_STATE)]
    for version in sorted(versions):
        token = None
        while True:
            tag = f"tags.dataset_version = '{version}'"
            page = client.search_runs(experiments, tag, EVERY_STATE, max_results=RUNS_AT_ONCE, page_token=token)
            yield from page
            token = page.token
            if not token:
                break


def _checkpoints(storage: Storage, versions: Set[str], runs: Set[str]) -> Iterator[str]:
    for stage in storage.list_folder(CHECKPOINTS):
        for folder in storage.list_folder(f"{CHECKPOINTS}/{stage}"):
            prefix = f"{CHECKPOINTS}/{stage}/{folder}"
            if not storage.exists(key := f"{prefix}/{RESULT_FILE}"):
                continue
            says = storage.exists(config := f"{prefix}/{CONFIG_FILE}")
            learnt = storage.get_json(config).get("dataset_version") if says else None
            if learnt in versions or StageResult.model_validate(storage.get_json(key)).run_id in runs:
                yield f"checkpoint {stage}/{folder}"


def _registered(storage: Storage, settings: Settings, versions: Set[str], runs: Set[str]) -> Iterator[str]:
    client = mlflow_client(settings, storage)
    for name in MODELS:
        for found in client.search_model_versions(f"name='{name}'"):
            if found.tags.get("dataset_version") in versions or found.run_id in runs:
                yield f"{name} version {found.version}"
