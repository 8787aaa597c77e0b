"""An imported stage and the folder it is written to: safetensors, JSON, and a report of every key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from crrg.registry.imported import KEY_REPORT_FILE

PUBLISHED_FILE = "give the file as its authors publish it"
"""Way out of messages about a file that is not what its kind says."""


@dataclass(frozen=True)
class ImportedStage:
    """One of our networks filled from a published checkpoint.

    Attributes:
        stage: detector, selector, generator or clip.
        module: The network.
        config: Content of its ``config.json``.
        key_report: What became of every key.
        files: Further files, e.g. ``tokenizer.json``.
        remarks: What was assumed of it, and what is unusual, in sentences.
    """

    stage: str
    module: nn.Module
    config: Mapping[str, Any]
    key_report: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def write_import(stages: Sequence[ImportedStage], out: Path, source: str, licence: str) -> dict[str, Any]:
    """Write imported stages to ``<out>/<stage>/`` and the key report last.

    Args:
        stages: What was imported.
        out: Folder to write to; made if missing.
        source: Name of the published model.
        licence: What may be done with its weights.

    Returns:
        The key report: per stage, numbers of keys and parameters, the digest of the weights, whether a vocabulary is
        missing, what was assumed, and every key.
    """
    report: dict[str, Any] = {"source": source, "licence": licence, "stages": {}}
    for imported in stages:
        folder = out / imported.stage
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.detach().contiguous().clone() for name, tensor in imported.module.state_dict().items()}
        save_file(state, str(folder / "model.safetensors"))
        (folder / "config.json").write_text(json.dumps(imported.config, indent=1, sort_keys=True) + "\n")
        for name, data in imported.files.items():
            (folder / name).write_bytes(data)
        with (folder / "model.safetensors").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        report["stages"][imported.stage] = {
            "num_parameters": sum(parameter.numel() for parameter in imported.module.parameters()),
            "sha256": digest,
            "lacks_tokenizer": imported.config.get("tokenizer_sha256") == "",
            "remarks": list(imported.remarks),
            **imported.key_report,
        }
    (out / KEY_REPORT_FILE).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    return report
