"""The folder that ``crrg import`` wrote, read back: a published model in our layout, checked against its digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from crrg.errors import ModelError

KEY_REPORT_FILE = "key_report.json"


def read_import(folder: Path, stage: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read an imported stage back, its weights checked against the digest in the key report.

    Args:
        folder: What the import wrote to.
        stage: One of its stages.

    Returns:
        Its ``config.json``, and the bytes of every other file by name.

    Raises:
        ModelError: The folder holds no such stage, or its weights are not those that were imported.
    """
    wanted = import_digest(folder, stage)
    config = import_config(folder, stage)
    try:
        files = {path.name: path.read_bytes() for path in (folder / stage).iterdir() if path.name != "config.json"}
        found = hashlib.sha256(files["model.safetensors"]).hexdigest()
    except (OSError, ValueError, KeyError) as error:
        raise _absent(stage) from error
    if found != wanted:
        raise ModelError(f"the weights have digest {found[:16]}, {wanted[:16]} was imported; import again", stage)
    return config, files


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
