"""Parts of a bundle that are named by their folders: what `crrg import` wrote, and what a training finished.

An imported stage is taken into the root as a finished stage, unchanged, named by the digest of what it is. It says of
itself where it comes from and what its licence is, and so does the bundle it goes into.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crrg.config.base import STAGES
from crrg.config.paper import CHANNELS_PER_BASE
from crrg.config.references import StageResult
from crrg.errors import ConfigError, DigestMismatch, ModelError, StorageError
from crrg.registry.imported import IMPORT_ID, KEY_REPORT_FILE, import_id, import_report, read_import
from crrg.registry.matching_parts import TRAINED_ON
from crrg.registry.stage_files import read_stage_config, read_stage_file
from crrg.storage import Storage, canonical_json, hash_json

logger = logging.getLogger(__name__)

REGION_PARTS = ("detector", "selector", "generator")
ENCODER = "sentence-encoder"
"""What `crrg import` calls an encoder by which repeated sentences are found; it is no stage."""


def find_parts(folders: Sequence[str], storage: Storage) -> tuple[StageResult, ...]:
    """Return the stages that folders hold, in the order of the folders.

    Args:
        folders: Of `crrg import`, on this machine; or of finished trainings, under the root.
        storage: Root; receives imported stages.

    Raises:
        ConfigError: A folder holds nothing that a bundle could be made of.
        ModelError: Weights or a vocabulary are not those that were imported, or the folder is damaged.
    """
    return tuple(part for folder in folders for part in _parts_in(folder, storage))


@dataclass(frozen=True)
class GivenEncoder:
    """An imported encoder of sentences.

    Attributes:
        config: What a bundle says of it.
        files: Its ``model.safetensors`` and ``tokenizer.json``.
    """

    config: Mapping[str, Any]
    files: Mapping[str, bytes]


def find_encoder(folders: Sequence[str]) -> GivenEncoder | None:
    """Return the encoder of sentences in the last folder that holds one, or ``None``.

    Raises:
        ConfigError: It was imported without its vocabulary.
        ModelError: Its weights or its vocabulary are not those that were imported, or the folder is damaged.
    """
    for folder in reversed(folders):
        path = Path(folder)
        if not (path / KEY_REPORT_FILE).is_file():
            continue
        report = import_report(path)
        if ENCODER in report["stages"]:
            config, files = read_import(path, ENCODER)
            _check_vocabulary(files, report["source"], "sentence encoder")
            sha256 = hashlib.sha256(files["model.safetensors"]).hexdigest()
            origin = {"source": report["source"], "licence": report["licence"], "part": ENCODER, "sha256": sha256}
            return GivenEncoder({**config, "imported": origin}, files)
    return None


def check_parts(parts: Mapping[str, StageResult], storage: Storage) -> None:
    """Refuse parts that speak to each other in numbers that the other has not learnt.

    A stage that notes the parts it was trained on is held to them where the bundle is composed; here the imports that
    stages come from are compared, and sizes.

    Args:
        parts: Part of a bundle to its stage; a missing one is not looked at.
        storage: Root with the stages.

    Raises:
        ConfigError: Two parts do not suit each other; the message names them and the way out.
    """
    configs = {name: read_stage_config(storage, part) for name, part in parts.items()}
    if any(name not in configs for name in REGION_PARTS):
        return
    detector, selector, generator = (configs[name]["architecture"] for name in REGION_PARTS)
    origin = {name: configs[name].get("imported", {}).get(IMPORT_ID, "") for name in REGION_PARTS}
    is_noted = {name: TRAINED_ON in configs[name] for name in REGION_PARTS}
    reads_features = selector.get("backbone") == "detector"
    width = int(detector.get("pyramid_channels") or CHANNELS_PER_BASE * int(detector.get("resnet_width", 0)))
    for problem, is_wrong in {
        "selector and generator come from different imports or trainings; take both from one": (
            not is_noted["generator"] and origin["selector"] != origin["generator"]
        ),
        "the selector judges the region features of the detector it was trained with; take both from one folder": (
            reads_features and not is_noted["selector"] and origin["detector"] != origin["selector"]
        ),
        "the selector judges region features that this detector does not hand on; take both from one folder": (
            reads_features and not detector.get("region_features")
        ),
        f"the selector judges features of {selector.get('width')} values, this detector's have {width}; take both from "
        "one folder": reads_features and detector.get("backbone") == "resnet50" and width != selector.get("width"),
        f"the selector gives features of {selector.get('feature_size')} values, the generator reads "
        f"{generator.get('feature_size')}; take both from one folder": (
            selector.get("feature_size") != generator.get("feature_size")
        ),
    }.items():
        if is_wrong:
            raise ConfigError(problem, "parts of the bundle")


def _parts_in(folder: str, storage: Storage) -> tuple[StageResult, ...]:
    key = folder.strip("/")
    if key.startswith("checkpoints/") and storage.exists(f"{key}/result.json"):
        finished = StageResult.model_validate(storage.get_json(f"{key}/result.json"))
        return (finished.model_copy(update={"reused": True}),)
    path = Path(folder)
    if not (path / KEY_REPORT_FILE).is_file():
        raise ConfigError(
            "contains no part of a bundle; give the --out folder of `crrg import rgrg` or `crrg import "
            "sentence-encoder`, or the folder under the root that `crrg train` named (checkpoints/…)",
            folder,
        )
    report = import_report(path)
    _refuse_others(report, folder)
    origin = {"source": report["source"], "licence": report["licence"], IMPORT_ID: import_id(report)}
    return tuple(_adopted(path, name, origin, storage) for name in REGION_PARTS if name in report["stages"])


def _refuse_others(report: Mapping[str, Any], folder: str) -> None:
    """Refuse an import that a bundle cannot hold."""
    stages = report["stages"]
    if "clip" in stages:
        raise ConfigError(
            f"a bundle's CLIP part reads the 14 labels with a calibrated head, and {report['source']} has none; train "
            "one that starts from it: crrg train clip --initial-weights FOLDER. As it was published, it answers "
            "crrg zero-shot --model FOLDER, or from Python (docs/published.md)",
            folder,
        )
    if not set(stages) & {*STAGES, ENCODER}:
        raise ConfigError(
            f"{', '.join(sorted(stages))} of {report['source']} is no part of a bundle; a training may start from "
            "resnet50, gpt2 and bert (crrg train --initial-weights), an evaluation may read chexbert and radgraph",
            folder,
        )


def _adopted(folder: Path, stage: str, about: Mapping[str, str], storage: Storage) -> StageResult:
    """Return an imported stage as a finished one of the root, written there if it is new."""
    config, files = read_import(folder, stage)
    if stage == "generator":
        _check_vocabulary(files, about["source"], stage)
    sha256 = hashlib.sha256(files["model.safetensors"]).hexdigest()
    config = {**config, "imported": {**about, "part": stage, "sha256": sha256}}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    name = hash_json({"stage": stage, "config": config, "files": digests})
    result = StageResult(
        stage=stage,
        prefix=f"checkpoints/{stage}/{name}",
        sha256=sha256,
        config_hash=name,
        reused=True,
        files={**digests, "config.json": hashlib.sha256(canonical_json(config)).hexdigest()},
    )
    if not _is_finished(storage, result):
        for file, data in files.items():
            storage.put(f"{result.prefix}/{file}", data)
        storage.put(f"{result.prefix}/config.json", canonical_json(config))
        storage.put_json(
            f"{result.prefix}/result.json", result.model_copy(update={"reused": False}).model_dump(mode="json")
        )
    logger.info("%s of %s is a part (%s)", stage, about["source"], about["licence"])
    return result.model_copy(update={"reused": True})


def _is_finished(storage: Storage, result: StageResult) -> bool:
    """Tell whether the root holds this stage whole, its weights verified."""
    if not storage.exists(f"{result.prefix}/result.json"):
        return False
    try:
        for file in ("model.safetensors", *result.files):
            read_stage_file(storage, result, file)
    except (DigestMismatch, ModelError, StorageError) as error:
        logger.warning("the copy of an imported %s is damaged and is rewritten: %s", result.stage, error)
        return False
    return True


def _check_vocabulary(files: Mapping[str, bytes], source: str, subject: str) -> None:
    if "tokenizer.json" not in files:
        raise ConfigError(
            f"{source} was imported without its vocabulary and cannot write text; import it again with --tokenizer",
            subject,
        )
