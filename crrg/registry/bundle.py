"""A bundle: the four stages that belong together, in one folder, loaded whole or refused.

``models/bundles/<bundle id>/`` holds ``bundle.json``, ``<stage>.safetensors``, ``tokenizer.json``,
``clip_tokenizer.json``, ``model_card.md`` and ``reference.json``, which says what the training population looks like;
where it finds repeated sentences by an encoder, also ``sentence_encoder.safetensors`` and
``sentence_encoder_tokenizer.json``.
The bundle id is a digest over all of it but the registered versions, so equal training makes an equal bundle. How one
is put together is in ``composing``. Nothing here makes a tensor; ``crrg.inference.pipeline`` does.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Mapping
from typing import Any

from crrg.checked_json import check_schema_version
from crrg.config.base import STAGES
from crrg.config.references import BundleRef
from crrg.data.images import PREPROCESSING_VERSION, golden_digest
from crrg.domain.bundle import (
    ENCODER_VOCABULARY,
    ENCODER_WEIGHTS,
    SENTENCE_ENCODER,
    BundleFiles,
    recorded_image_size,
)
from crrg.errors import Conflict, DigestMismatch, ModelError, StorageError
from crrg.retries import ACCESS_DENIED
from crrg.storage import Storage, canonical_json, hash_json

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 4
"""4 may have ``findings``, the classifier by which drafts state findings; 3 has ``image_size`` in its preprocessing; 2
has ``fusion``, the fused classifier or ``null``; 1 has none and gives out the label head's probabilities."""
READABLE_VERSIONS = (1, 2, 3, 4)
ID_LENGTH = 32
BUNDLE_FILE = "bundle.json"
CARD_FILE = "model_card.md"
REFERENCE_FILE = "reference.json"
"""What nights are compared with; a bundle may have none."""
WEIGHT_FILES: Mapping[str, str] = {stage: f"{stage}.safetensors" for stage in STAGES}
TOKENIZER_FILES: Mapping[str, str] = {"generator": "tokenizer.json", "clip": "clip_tokenizer.json"}
REQUIRED_FILES: tuple[str, ...] = (*WEIGHT_FILES.values(), *TOKENIZER_FILES.values(), CARD_FILE)
ENCODER_FILES = (ENCODER_WEIGHTS, ENCODER_VOCABULARY)
NOT_IN_DIGEST = ("bundle_id", "versions")
MAX_SAFETENSORS_HEADER = 100_000_000


def commit_bundle(storage: Storage, bundle: BundleFiles) -> BundleRef:
    """Write the parts, then ``bundle.json``, which makes the folder a bundle; an equal one is left as it is."""
    prefix = f"models/bundles/{bundle.bundle_id}"
    ref = BundleRef(bundle_id=bundle.bundle_id, prefix=prefix)
    if storage.exists(f"{prefix}/{BUNDLE_FILE}"):
        logger.info("bundle %s exists already", bundle.bundle_id)
        return ref
    for name, data in bundle.files.items():
        storage.put(f"{prefix}/{name}", data)
    try:
        storage.put_if_absent(f"{prefix}/{BUNDLE_FILE}", canonical_json(dict(bundle.spec)))
    except Conflict:
        logger.info("bundle %s was written by another run", bundle.bundle_id)
    return ref


def take_in(storage: Storage, ref: BundleRef) -> BundleRef:
    """Return the reference below the root of a bundle, whose parts are copied there where it lies elsewhere.

    What is committed names its bundle by a place that goes with the root, and that nobody clears away.

    Raises:
        ModelError, DigestMismatch, StorageError: As ``read_bundle``; also ModelError where this identity may not write
            models, as that of nights.
    """
    if not _is_elsewhere(ref.prefix):
        return ref
    prefix = f"models/bundles/{ref.bundle_id}"
    if not storage.exists(f"{prefix}/{BUNDLE_FILE}"):
        try:
            commit_bundle(storage, read_bundle(storage, ref))
        except StorageError as error:
            if error.code != ACCESS_DENIED:
                raise
            reason = f"may not be copied to models/ of the root ({error.reason}); run this once as who trains"
            raise ModelError(reason, f"bundle {ref.bundle_id[:12]}") from error
    return ref.model_copy(update={"prefix": prefix})


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
        raise ModelError(
            "there is no bundle here (no bundle.json); name its folder, a version such as 3, or "
            "models:/crrg-pipeline@champion",
            folder.root,
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError("bundle.json cannot be read; restore the bundle from its store", folder.root) from error
    _check_version(spec, subject)
    wanted = {*REQUIRED_FILES, *(ENCODER_FILES if spec.get(SENTENCE_ENCODER) else ())}
    if odd := sorted((listed - {REFERENCE_FILE}) ^ wanted):
        raise ModelError(f"missing or unexpected parts: {', '.join(odd)}; a bundle is loaded whole or refused", subject)
    if bundle_digest(spec) != subject:
        raise DigestMismatch("bundle.json was changed after it was written; restore it", subject)
    return spec


def read_image_size(storage: Storage, ref: BundleRef) -> int:
    """Return the longer side of the films that a bundle was trained on, pixels; 0 where it does not say.

    Raises:
        ModelError: There is no such bundle.
        DigestMismatch: Its id is not the digest of its content.
        StorageError: The store is out of reach.
    """
    return recorded_image_size(read_spec(bundle_folder(storage, ref.prefix)))


def bundle_digest(spec: Mapping[str, Any]) -> str:
    """Return the bundle id that a spec must have."""
    return hash_json({name: value for name, value in spec.items() if name not in NOT_IN_DIGEST}, ID_LENGTH)


def dataset_versions(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the dataset versions that a bundle was trained, tuned or calibrated on.

    Parts may be of other versions than the bundle, whose own one calibrates them together. Stages that were trained
    before they recorded theirs count as of the bundle's.
    """
    stages = [config.get("dataset_version", "") for config in spec["stages"].values()]
    return tuple(dict.fromkeys(version for version in (spec["dataset_version"], *stages) if version))


def bundle_folder(storage: Storage, prefix: str) -> Storage:
    """Return the storage of a bundle folder: under the root, or elsewhere for an absolute path or URL."""
    return storage.at(prefix) if _is_elsewhere(prefix) else storage.child(prefix)


def _is_elsewhere(prefix: str) -> bool:
    return "://" in prefix or prefix.startswith("/")


def read_reference(storage: Storage, ref: BundleRef) -> bytes | None:
    """Return what a bundle says of its training population, or ``None`` where it says nothing or is not there.

    Raises:
        DigestMismatch: The bytes are not the recorded ones.
        StorageError: The store is out of reach.
    """
    folder = bundle_folder(storage, ref.prefix)
    if not folder.exists(BUNDLE_FILE):
        return None
    sha256 = read_spec(folder)["files"].get(REFERENCE_FILE)
    return folder.get_verified(REFERENCE_FILE, sha256) if sha256 else None


def _check_version(spec: Mapping[str, Any], subject: str) -> None:
    check_schema_version(spec.get("schema_version"), READABLE_VERSIONS, subject, or_else="retrain", error=ModelError)
    version = int(spec["schema_version"])
    lacks = [name for name, since in (("fusion", 2), ("preprocessing", 1)) if version >= since and name not in spec]
    if version >= 3 and not lacks and not recorded_image_size(spec):
        lacks = ["preprocessing.image_size"]
    if lacks:
        raise ModelError(f"bundle.json lacks {', '.join(lacks)}; restore it from its store, or retrain", subject)


def _check_content(name: str, data: bytes) -> None:
    """Refuse a part that is not the plain format its suffix promises; a pickle or an archive never is."""
    suffix = name.rsplit(".", 1)[-1]
    if suffix == "safetensors":
        length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
        plain = 2 <= length <= min(len(data) - 8, MAX_SAFETENSORS_HEADER) and data[8:9] == b"{"
    else:
        plain = suffix in ("json", "md") and _is_text(data) and (suffix == "md" or data[:1] == b"{")
    if not plain:
        raise ModelError("a bundle holds safetensors, JSON and Markdown only; this part is something else", name)


def _is_text(data: bytes) -> bool:
    try:
        return "\x00" not in data.decode()
    except UnicodeDecodeError:
        return False


def _check_preprocessing(spec: Mapping[str, Any]) -> None:
    trained, here = spec["preprocessing"], preprocessing_here()
    if {name: value for name, value in trained.items() if name != "image_size"} != here:
        raise ModelError(
            f"films are prepared differently here (version {here['version']}, bundle {trained.get('version')}, "
            "or another result on the test pattern); use the program version that trained it, or retrain",
            str(spec["bundle_id"]),
        )


def preprocessing_here() -> dict[str, str]:
    """Return how this program prepares films, whatever their size."""
    return {"version": PREPROCESSING_VERSION, "golden_digest": golden_digest()}
