"""A bundle: the four stages that belong together, in one folder, loaded whole or refused.

``models/bundles/<bundle id>/`` holds ``bundle.json``, ``<stage>.safetensors``, ``tokenizer.json``,
``clip_tokenizer.json`` and ``model_card.md``. The bundle id is a digest over all of it but the registered versions, so
equal training makes an equal bundle. Nothing here makes a tensor; ``crrg.inference.pipeline`` does.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
from collections.abc import Mapping
from typing import Any

from crrg.config.base import STAGES
from crrg.config.references import BundleRef, StageResult
from crrg.config.running import DecodingSettings
from crrg.data.images import PREPROCESSING_VERSION, golden_digest
from crrg.domain.bundle import BundleFiles
from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS
from crrg.errors import Conflict, DigestMismatch, ModelError, StorageError
from crrg.registry.model_card import model_card
from crrg.storage import Storage, canonical_json, hash_json

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
ID_LENGTH = 32
BUNDLE_FILE = "bundle.json"
CARD_FILE = "model_card.md"
WEIGHT_FILES: Mapping[str, str] = {stage: f"{stage}.safetensors" for stage in STAGES}
TOKENIZER_FILES: Mapping[str, str] = {"generator": "tokenizer.json", "clip": "clip_tokenizer.json"}
REQUIRED_FILES: tuple[str, ...] = (*WEIGHT_FILES.values(), *TOKENIZER_FILES.values(), CARD_FILE)
NOT_IN_DIGEST = ("bundle_id", "versions")
MAX_SAFETENSORS_HEADER = 100_000_000


def write_bundle(
    storage: Storage,
    results: Mapping[str, StageResult],
    *,
    dataset_version: str,
    decoding: DecodingSettings | None = None,
) -> BundleRef:
    """Put the four finished stages into one folder.

    Args:
        storage: Root with the stages' checkpoints; receives the bundle.
        results: Stage name to its finished result; all four.
        dataset_version: What they were trained on, for the model card.
        decoding: How drafts are searched; the generator's own settings if not given.

    Returns:
        Reference to the bundle; an equal bundle that exists already is left as it is.

    Raises:
        ModelError: A stage is missing or incomplete.
        DigestMismatch: A stage's weights are not the recorded ones.
    """
    missing = [stage for stage in STAGES if stage not in results]
    if missing:
        raise ModelError(f"a bundle needs all four stages, missing: {', '.join(missing)}; train them first", "bundle")
    configs = {stage: _stage_config(storage, results[stage]) for stage in STAGES}
    files = {
        name: storage.get_verified(f"{results[stage].prefix}/model.safetensors", results[stage].sha256)
        for stage, name in WEIGHT_FILES.items()
    }
    files |= {name: storage.get(f"{results[stage].prefix}/tokenizer.json") for stage, name in TOKENIZER_FILES.items()}
    chosen = decoding or DecodingSettings.model_validate(configs["generator"].get("decoding", {}))
    spec: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "stages": configs,
        "checkpoints": {stage: results[stage].config_hash for stage in STAGES},
        "metrics": {stage: results[stage].metrics for stage in STAGES},
        "dataset_version": dataset_version,
        "labels": list(LABELS),
        "regions": list(REGIONS),
        "thresholds": configs["clip"].get("thresholds", {}),
        "calibration": configs["clip"].get("calibration", {}),
        "decoding": chosen.model_dump(mode="json"),
        "preprocessing": {"version": PREPROCESSING_VERSION, "golden_digest": golden_digest()},
    }
    files[CARD_FILE] = model_card(spec).encode()
    spec["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    return _commit(storage, spec, files, {stage: results[stage].model_version for stage in STAGES})


def read_bundle(storage: Storage, ref: BundleRef) -> BundleFiles:
    """Read a bundle and verify every part of it.

    Args:
        storage: Root; also reaches a folder elsewhere where the reference names one.
        ref: The bundle; its id must be the folder's.

    Raises:
        ModelError: A part is missing, is not what its name says, or films are prepared differently here.
        DigestMismatch: A part's bytes, or the whole, are not the recorded ones.
        StorageError: The store is out of reach.
    """
    folder = bundle_folder(storage, ref.prefix)
    spec = read_spec(folder)
    if ref.bundle_id and spec["bundle_id"] != ref.bundle_id:
        found = spec["bundle_id"]
        raise ModelError(f"the folder holds bundle {found}; the registry and the store disagree", ref.bundle_id)
    files = {}
    for name, sha256 in sorted(spec["files"].items()):
        files[name] = folder.get_verified(name, sha256)
        _check_content(name, files[name])
    _check_preprocessing(spec)
    return BundleFiles(bundle_id=spec["bundle_id"], spec=spec, files=files)


def read_spec(folder: Storage) -> dict[str, Any]:
    """Return a bundle folder's ``bundle.json`` after checking that it is whole and unchanged.

    Raises:
        ModelError: There is no bundle, or it lists other files than a bundle has.
        DigestMismatch: Its id is not the digest of its content.
    """
    try:
        spec: dict[str, Any] = json.loads(folder.get(BUNDLE_FILE))
        listed = set(spec["files"])
        subject = str(spec["bundle_id"])
    except StorageError as error:
        if error.retryable:
            raise
        raise ModelError("there is no bundle here (no bundle.json); name a bundle folder", folder.root) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError("bundle.json cannot be read; restore the bundle from its store", folder.root) from error
    if spec.get("schema_version") != SCHEMA_VERSION:
        raise ModelError(f"schema version {spec.get('schema_version')}, this program reads {SCHEMA_VERSION}", subject)
    if listed != set(REQUIRED_FILES):
        odd = sorted(listed ^ set(REQUIRED_FILES))
        raise ModelError(f"missing or unexpected parts: {', '.join(odd)}; a bundle is loaded whole or refused", subject)
    if bundle_digest(spec) != subject:
        raise DigestMismatch("bundle.json was changed after it was written; restore it", subject)
    return spec


def bundle_digest(spec: Mapping[str, Any]) -> str:
    """Return the bundle id that a spec must have."""
    return hash_json({name: value for name, value in spec.items() if name not in NOT_IN_DIGEST}, ID_LENGTH)


def bundle_folder(storage: Storage, prefix: str) -> Storage:
    """Return the storage of a bundle folder: under the root, or elsewhere for an absolute path or URL."""
    if "://" in prefix or prefix.startswith("/"):
        return storage.at(prefix)
    return storage.child(prefix)


def _stage_config(storage: Storage, result: StageResult) -> dict[str, Any]:
    key = f"{result.prefix}/config.json"
    if not storage.exists(key):
        raise ModelError("the stage folder is incomplete; train the stage again", result.prefix)
    config: dict[str, Any] = storage.get_json(key)
    return config


def _commit(
    storage: Storage, spec: dict[str, Any], files: Mapping[str, bytes], versions: Mapping[str, str]
) -> BundleRef:
    """Write the parts, then ``bundle.json``, which makes the folder a bundle."""
    bundle_id = bundle_digest(spec)
    prefix = f"models/bundles/{bundle_id}"
    ref = BundleRef(bundle_id=bundle_id, prefix=prefix)
    if storage.exists(f"{prefix}/{BUNDLE_FILE}"):
        logger.info("bundle %s exists already", bundle_id)
        return ref
    for name, data in files.items():
        storage.put(f"{prefix}/{name}", data)
    try:
        content = canonical_json({**spec, "bundle_id": bundle_id, "versions": dict(versions)})
        storage.put_if_absent(f"{prefix}/{BUNDLE_FILE}", content)
    except Conflict:
        logger.info("bundle %s was written by another run", bundle_id)
    return ref


def _check_content(name: str, data: bytes) -> None:
    """Refuse a part that is not the plain format its suffix promises; a pickle or an archive never is."""
    suffix = name.rsplit(".", 1)[-1]
    if suffix == "safetensors":
        length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
        plain = 2 <= length <= min(len(data) - 8, MAX_SAFETENSORS_HEADER) and data[8:9] == b"{"
    else:
        plain = suffix in ("json", "md") and _is_text(data)
    if not plain:
        raise ModelError("a bundle holds safetensors, JSON and Markdown only; this part is something else", name)


def _is_text(data: bytes) -> bool:
    try:
        return "\x00" not in data.decode()
    except UnicodeDecodeError:
        return False


def _check_preprocessing(spec: Mapping[str, Any]) -> None:
    trained = spec["preprocessing"]
    here = {"version": PREPROCESSING_VERSION, "golden_digest": golden_digest()}
    if trained != here:
        raise ModelError(
            f"films are prepared differently here (version {here['version']}, bundle {trained.get('version')}, "
            "or another result on the test pattern); use the program version that trained it, or retrain",
            str(spec["bundle_id"]),
        )
