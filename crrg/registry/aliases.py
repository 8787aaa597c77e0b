"""From what a person writes (an alias, a version, a folder) to one bundle, resolved once per run.

An alias is decided in MLflow alone. What was found is recorded under ``models/aliases/``, and with MLflow away that
record is used and the caller is told, so that a night does not depend on a second server.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from crrg.config.base import Settings
from crrg.config.references import BundleRef
from crrg.errors import ConfigError, ModelError, StorageError
from crrg.registry.bundle import BUNDLE_FILE, bundle_folder, read_spec
from crrg.storage import Storage
from crrg.tracking.models import PIPELINE_MODEL, ModelRegistry

logger = logging.getLogger(__name__)

CHAMPION = "champion"
CANDIDATE = "candidate"
PREVIOUS = "previous"
GATE_TAG = "gate"
GATE_PASSED = "passed"
GATE_FAILED = "failed"
GATE_FAILURES = "gate_failures"

_ALIAS = re.compile(rf"^models:/{PIPELINE_MODEL}@(?P<alias>[a-z][a-z0-9-]*)$")
_VERSION = re.compile(rf"^(?:models:/{PIPELINE_MODEL}/)?(?P<version>[0-9]+)$")


@dataclass(frozen=True)
class ResolvedBundle:
    """One bundle, and how it was found.

    Attributes:
        ref: The bundle.
        registry_available: Whether the registry was asked and answered; ``False`` where the last record was used.
    """

    ref: BundleRef
    registry_available: bool = True


def resolve_bundle(model: str, storage: Storage, settings: Settings) -> ResolvedBundle:
    """Return the bundle that a reference means.

    Args:
        model: ``models:/crrg-pipeline@champion`` (or another alias), ``models:/crrg-pipeline/3``, ``3``, or a folder.
        storage: Root with the bundles and the records of the aliases.
        settings: Name the registry, if it is a server.

    Raises:
        ModelError: The alias, the version or the folder does not exist, or the alias points to a version that has
            not passed its gate.
        StorageError: A version was asked for and the registry is out of reach.
    """
    alias = _ALIAS.match(model)
    if alias:
        found = _resolve_alias(alias["alias"], storage, settings)
        _check_there(found.ref, f"@{alias['alias']}", storage)
        return found
    version = _VERSION.match(model)
    if version:
        return ResolvedBundle(version_ref(ModelRegistry(settings, storage), version["version"]))
    if model.startswith("models:"):
        raise ModelError(f"only {PIPELINE_MODEL}@ALIAS and {PIPELINE_MODEL}/VERSION are known", model)
    folder = storage.at(model)
    # what lies in the root keeps its place there when the root is copied elsewhere
    prefix = folder.root.removeprefix(f"{storage.root}/")
    return ResolvedBundle(BundleRef(bundle_id=read_spec(folder)["bundle_id"], prefix=prefix))


def version_ref(registry: ModelRegistry, version: str) -> BundleRef:
    """Return the bundle of a registered version.

    Raises:
        ModelError: There is no such version, or it does not point to a bundle.
    """
    tags = registry.version_tags(version)
    if "bundle_id" not in tags or "bundle_prefix" not in tags:
        raise ModelError("the version does not name a bundle; register bundles with crrg retrain", f"version {version}")
    return BundleRef(bundle_id=tags["bundle_id"], prefix=tags["bundle_prefix"], model_version=version)


def record_alias(storage: Storage, alias: str, ref: BundleRef) -> None:
    """Keep what an alias was found to mean, for runs that meet no registry."""
    storage.put_json(_record_key(alias), {"alias": alias, **ref.model_dump(mode="json")})


def recorded_alias(storage: Storage, alias: str) -> BundleRef | None:
    """Return what an alias was last found to mean, or ``None``."""
    if not storage.exists(_record_key(alias)):
        return None
    record = storage.get_json(_record_key(alias))
    return BundleRef.model_validate({name: record[name] for name in BundleRef.model_fields})


def _check_there(ref: BundleRef, alias: str, storage: Storage) -> None:
    """Refuse an alias of which the bundle is gone, before anything is read or written for its sake."""
    if not bundle_folder(storage, ref.prefix).exists(BUNDLE_FILE):
        raise ModelError(
            f"version {ref.model_version or 'unregistered'} points to {ref.prefix}, where there is no bundle; restore "
            "it from a backup, or give another version the alias with `crrg promote`",
            alias,
        )


def _resolve_alias(alias: str, storage: Storage, settings: Settings) -> ResolvedBundle:
    try:
        ref = _from_registry(alias, ModelRegistry(settings, storage))
    except (StorageError, ConfigError) as error:
        logger.warning("the registry does not answer, using the last record of %s: %s", alias, error)
        ref = None
    if ref is None:
        return _from_record(alias, storage)
    if recorded_alias(storage, alias) != ref:
        record_alias(storage, alias, ref)
    return ResolvedBundle(ref)


def _from_registry(alias: str, registry: ModelRegistry) -> BundleRef | None:
    """Return what an alias means; ``None`` where there is no registry."""
    if not registry.exists():
        return None
    known = registry.aliases()
    if alias not in known:
        exists = ", ".join(f"{name} -> {version}" for name, version in sorted(known.items())) or "none"
        raise ModelError(
            f"there is no such alias (existing: {exists}); `crrg retrain` makes versions, and the champion of one that "
            "passes its gate",
            f"@{alias}",
        )
    tags = registry.version_tags(known[alias])
    if alias == CHAMPION and tags.get(GATE_TAG) != GATE_PASSED:
        raise ModelError(
            f"version {known[alias]} has not passed its gate ({GATE_TAG}={tags.get(GATE_TAG, 'unset')}); "
            "promote a version that has",
            f"@{alias}",
        )
    return version_ref(registry, known[alias])


def _from_record(alias: str, storage: Storage) -> ResolvedBundle:
    ref = recorded_alias(storage, alias)
    if ref is None:
        raise ModelError("there is no registry here and no record of the alias; run crrg retrain first", f"@{alias}")
    return ResolvedBundle(ref, registry_available=False)


def _record_key(alias: str) -> str:
    return f"models/aliases/{alias}.json"
