"""What a finished stage's folder holds, read only as it was when the stage was finished.

``result.json`` records the weights and, since stages record them, ``config.json`` and every other file: a threshold,
a calibration or a vocabulary that was changed afterwards would else be sealed into a bundle as if it had been learnt.
"""

from __future__ import annotations

import json
from typing import Any

from crrg.config.references import StageResult
from crrg.errors import DigestMismatch, ModelError
from crrg.storage import Storage

CONFIG_FILE, WEIGHTS_FILE, RESULT_FILE = "config.json", "model.safetensors", "result.json"


def read_stage_file(storage: Storage, result: StageResult, name: str) -> bytes:
    """Return a file of a finished stage.

    Args:
        storage: Root with the stage's folder.
        result: The stage; one that was finished before files were recorded vouches for its weights alone.
        name: ``model.safetensors``, ``config.json``, ``tokenizer.json``.

    Raises:
        DigestMismatch: It is not the file that the stage was finished with.
        ModelError: It is not there.
        StorageError: The store is out of reach.
    """
    key = f"{result.prefix}/{name}"
    if not storage.exists(key):
        raise ModelError(f"{name} of the stage is gone; {_way_out(result)}", result.prefix)
    recorded = result.sha256 if name == WEIGHTS_FILE else result.files.get(name)
    if recorded is None:
        return storage.get(key)
    try:
        return storage.get_verified(key, recorded)
    except DigestMismatch as error:
        raise DigestMismatch(
            f"{error.reason.partition(';')[0]}: this is not what the stage was finished with; {_way_out(result)}", key
        ) from error


def read_stage_config(storage: Storage, result: StageResult) -> dict[str, Any]:
    """Return a finished stage's ``config.json``; raises as ``read_stage_file`` does."""
    config: dict[str, Any] = json.loads(read_stage_file(storage, result, CONFIG_FILE))
    return config


def _way_out(result: StageResult) -> str:
    return f"restore it, or remove {result.prefix}/{RESULT_FILE} and train the stage again"
