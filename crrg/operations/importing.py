"""Published checkpoints into our layout, by the name of what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crrg.errors import ConfigError

LICENCES = {"rgrg": "as published with the checkpoint; trained on MIMIC-CXR, whose data use agreement applies"}
"""Kinds of published checkpoints that can be imported, and what may be done with their weights."""


def import_checkpoint(kind: str, checkpoint: Path, out: Path, tokenizer: Path | None = None) -> dict[str, Any]:
    """Import a published checkpoint strictly, and write it as safetensors and JSON.

    Args:
        kind: What was published: ``rgrg``.
        checkpoint: Its file.
        out: Folder for one folder per stage and ``key_report.json``.
        tokenizer: The language model's ``tokenizer.json``, which is published apart from the checkpoint.

    Returns:
        The key report.

    Raises:
        ConfigError: There is no such kind, or no such tokenizer file.
        ModelError: The file is not what its kind says; nothing is written.
    """
    if kind not in LICENCES:
        raise ConfigError(f"no published checkpoint of this kind is known; one of {', '.join(LICENCES)}", "import")
    if tokenizer is not None and not tokenizer.is_file():
        raise ConfigError("there is no tokenizer file at this path", "tokenizer")
    from crrg.importers.imported import write_import
    from crrg.importers.rgrg import import_rgrg

    stages = import_rgrg(checkpoint, tokenizer.read_bytes() if tokenizer is not None else None)
    return write_import(stages, out, kind, LICENCES[kind])


def import_markdown(report: dict[str, Any]) -> str:
    """Return the key report as a table of numbers."""
    lines = [
        f"Imported {report['source']}. Licence: {report['licence']}.",
        "",
        "| stage | parameters | keys taken | aliases | dropped | own | sha256 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for stage, found in report["stages"].items():
        counts = " | ".join(str(len(found[name])) for name in ("taken", "aliases", "dropped", "own"))
        lines.append(f"| {stage} | {found['num_parameters']:,} | {counts} | `{found['sha256'][:16]}` |")
    return "\n".join(lines)
