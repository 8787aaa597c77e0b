"""Registered models: versions, their tags and aliases.

A version carries tags that point to bytes under the root (``bundle_prefix``, ``prefix``, ``sha256``); what an alias
means is decided in ``crrg/registry/``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from crrg.config.base import Settings
from crrg.config.references import BundleRef, StageResult
from crrg.errors import ModelError
from crrg.storage import Storage
from crrg.tracking.client import mlflow_client, reach
from crrg.tracking.server import tracking_uri

PIPELINE_MODEL = "crrg-pipeline"
MODELS: Mapping[str, str] = {
    PIPELINE_MODEL: "All four stages together: draft reports and labels of frontal chest radiographs, for review by a "
    "radiologist. `champion` drafts the nights, `candidate` was trained last, `previous` was champion before.",
    "crrg-detector": "Finds the 29 anatomical regions of a frontal chest radiograph.",
    "crrg-selector": "Reads each region: is it worth a sentence, is it abnormal, which findings does it show.",
    "crrg-generator": "Words the selected regions.",
    "crrg-clip": "Labels films with calibrated probabilities, compares them with texts; the tag `stage` says whether "
    "it was trained on reports alone (`clip`) or on reports and drafts (`joint`).",
}
"""What each registered model is for, as its page says it."""
PYFUNC_PACKAGES = ("numpy", "pillow", "pydantic", "safetensors", "tokenizers", "torch", "torchvision", "transformers")


class ModelRegistry:
    """Registered models, their versions, tags and aliases."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        """Name the registry; nothing is sent yet.

        Raises:
            ConfigError: The root is in an object store and no server is named.
        """
        self._settings = settings
        self._storage = storage
        self.uri = tracking_uri(settings, storage)

    def exists(self) -> bool:
        """Return whether there is a registry to ask: a server, or a database that an earlier run made."""
        return not self.uri.startswith("sqlite:") or Path(self.uri.removeprefix("sqlite:///")).exists()

    def register_stage(self, result: StageResult) -> str:
        """Register a finished stage as a version of its part's model and return it; equal weights keep their version.

        The models are ``crrg-detector``, ``crrg-selector``, ``crrg-generator`` and ``crrg-clip``; the joint stage makes
        versions of ``crrg-clip``, told apart by their tag ``stage``.
        """
        name = f"crrg-{result.part}"
        tags = {
            "sha256": result.sha256,
            "prefix": result.prefix,
            "config_hash": result.config_hash,
            "stage": result.stage,
        }
        known = self.find_version(name, {"sha256": result.sha256, "prefix": result.prefix})
        if known or not result.run_id:
            return known
        run = reach(lambda: self._client.get_run(result.run_id))
        text = json.dumps(result.model_dump(mode="json"), indent=1)
        reach(lambda: self._client.log_text(result.run_id, text, "checkpoint/result.json"))
        source = f"{run.info.artifact_uri}/checkpoint"
        about = f"Stage `{result.stage}`, weights in `{result.prefix}` under the root."
        version = reach(
            lambda: self._client.create_model_version(name, source, result.run_id, tags=tags, description=about)
        )
        return str(version.version)

    def register_bundle(
        self, ref: BundleRef, folder: Path, model_file: Path, run_id: str, tags: Mapping[str, str], about: str
    ) -> str:
        """Register a bundle as a new version of ``crrg-pipeline`` and return it.

        Args:
            ref: The bundle.
            folder: Local copy of its files, which become the model's artifacts.
            model_file: Models-from-code file.
            run_id: Run that the version belongs to.
            tags: Further tags of the version.
            about: What the version's page says of it, Markdown.
        """
        import mlflow

        packages = [f"{name}=={importlib.metadata.version(name)}" for name in ("crrg", *PYFUNC_PACKAGES)]
        self._ensure_model(PIPELINE_MODEL)
        all_tags = {**tags, "bundle_id": ref.bundle_id, "bundle_prefix": ref.prefix}
        with _fluent(self.uri), mlflow.start_run(run_id=run_id):
            info = reach(
                lambda: mlflow.pyfunc.log_model(
                    name=PIPELINE_MODEL,
                    python_model=str(model_file),
                    artifacts={"bundle": str(folder)},
                    pip_requirements=packages,
                )
            )
            version = reach(
                lambda: self._client.create_model_version(
                    PIPELINE_MODEL, info.model_uri, run_id, tags=all_tags, model_id=info.model_id, description=about
                )
            )
        return str(version.version)

    def find_version(self, name: str, tags: Mapping[str, str]) -> str:
        """Return the newest version that carries all the tags, or an empty string."""
        self._ensure_model(name)
        versions = reach(lambda: self._client.search_model_versions(f"name='{name}'"))
        matching = [int(v.version) for v in versions if all(v.tags.get(key) == value for key, value in tags.items())]
        return str(max(matching)) if matching else ""

    def training_run(self, part: str, sha256: str) -> str:
        """Return the run that some weights were trained in; empty where they are not registered, e.g. imported ones.

        Args:
            part: detector, selector, generator or clip.
            sha256: Digest of their ``model.safetensors``.
        """
        name = f"crrg-{part}"
        version = self.find_version(name, {"sha256": sha256})
        return self.version_tags(version, name)["run_id"] if version else ""

    def version_tags(self, version: str, name: str = PIPELINE_MODEL) -> dict[str, str]:
        """Return a version's tags.

        Raises:
            ModelError: There is no such version.
        """
        found = reach(lambda: self._client.get_model_version(name, version), f"{name} version {version}")
        return {**found.tags, "run_id": str(found.run_id or "")}

    def set_tags(self, version: str, tags: Mapping[str, str], name: str = PIPELINE_MODEL) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            reach(partial(self._client.set_model_version_tag, name, version, key, value))

    def aliases(self, name: str = PIPELINE_MODEL) -> dict[str, str]:
        """Return alias to version; empty where the model is not registered."""
        try:
            model = reach(lambda: self._client.get_registered_model(name), name)
        except ModelError:
            return {}
        return {alias: str(version) for alias, version in model.aliases.items()}

    def set_alias(self, alias: str, version: str, name: str = PIPELINE_MODEL) -> None:
        """Point an alias to a version."""
        reach(lambda: self._client.set_registered_model_alias(name, alias, version), f"{name} version {version}")

    @property
    def _client(self) -> Any:
        return mlflow_client(self._settings, self._storage)

    def _ensure_model(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, description=MODELS.get(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                reach(lambda: self._client.get_registered_model(name), name)


@contextlib.contextmanager
def _fluent(uri: str) -> Iterator[None]:
    """Point mlflow's fluent calls, and what they ask in turn, at a server; their address is the environment's, too."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
