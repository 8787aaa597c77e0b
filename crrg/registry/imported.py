"""The folder that ``crrg import`` wrote, read back: a published model in our layout, checked against its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crrg.errors import ModelError
from crrg.storage import hash_json

KEY_REPORT_FILE = "key_report.json"
VOCABULARY = "tokenizer.json"
IMPORT_ID = "import_id"
"""Field that says from which import a stage, or what it started from, comes."""


def read_import(folder: Path, stage: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read an imported stage back, weights and vocabulary checked against the digests that were written with them.

    Args:
        folder: What the import wrote to.
        stage: One of its stages.

    Returns:
        Its ``config.json``, and the bytes of every other file by name; a ``tokenizer.json`` only where a vocabulary was
        given at this import, whatever an earlier one left in the folder.

    Raises:
        ModelError: The folder holds no such stage, or its weights or vocabulary are not those that were imported.
    """
    wanted = import_digest(folder, stage)
    config = import_config(folder, stage)
    try:
        paths = [path for path in (folder / stage).iterdir() if path.name not in ("config.json", VOCABULARY)]
        files = {path.name: path.read_bytes() for path in paths}
        found = hashlib.sha256(files["model.safetensors"]).hexdigest()
    except (OSError, ValueError, KeyError) as error:
        raise _absent(stage) from error
    if found != wanted:
        raise ModelError(f"the weights have digest {found[:16]}, {wanted[:16]} was imported; import again", stage)
    vocabulary = import_vocabulary(folder, stage)
    return config, files if vocabulary is None else {**files, VOCABULARY: vocabulary}


def import_vocabulary(folder: Path, stage: str) -> bytes | None:
    """Return the vocabulary that an imported stage was given, checked against its digest; ``None`` where none was.

    Raises:
        ModelError: The folder holds no such stage, or its vocabulary is gone or another one.
    """
    wanted = import_config(folder, stage).get("tokenizer_sha256")
    if not wanted:
        return None
    try:
        data = (folder / stage / VOCABULARY).read_bytes()
    except OSError as error:
        raise ModelError(f"its {VOCABULARY} cannot be read; import again with --tokenizer", stage) from error
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        reason = f"the vocabulary has digest {found[:16]}, {wanted[:16]} was imported; import again with --tokenizer"
        raise ModelError(reason, stage)
    return data


def import_config(folder: Path, stage: str) -> dict[str, Any]:
    """Return the ``config.json`` of an imported stage; its weights are not looked at.

    Raises:
        ModelError: The folder holds no such stage.
    """
    try:
        config: dict[str, Any] = json.loads((folder / stage / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise _absent(stage) from error
    return config


def import_report(folder: Path) -> dict[str, Any]:
    """Return the key report of an import: ``source``, ``licence``, and ``stages`` by name.

    Raises:
        ModelError: The folder was not written by an import.
    """
    try:
        report: dict[str, Any] = json.loads((folder / KEY_REPORT_FILE).read_text())
        return {"source": str(report["source"]), "licence": str(report["licence"]), "stages": dict(report["stages"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "the folder was not written by `crrg import`; give what its --out named", folder.name
        ) from error


def import_id(report: Mapping[str, Any]) -> str:
    """Return what the stages of one import share, wherever its folder lies: a hash of the digests of their weights.

    Args:
        report: Its key report.
    """
    return hash_json({name: found["sha256"] for name, found in report["stages"].items()})


def import_digest(folder: Path, stage: str) -> str:
    """Return the digest that the weights of an imported stage had when they were written.

    Raises:
        ModelError: The folder holds no such stage.
    """
    try:
        return str(json.loads((folder / KEY_REPORT_FILE).read_text())["stages"][stage]["sha256"])
    except (OSError, ValueError, KeyError) as error:
        raise _absent(stage) from error


def _absent(stage: str) -> ModelError:
    return ModelError(f"the folder holds no imported {stage}; write it with `crrg import` and give its --out", stage)
