"""Published checkpoints into our layout, by the name of what was published, and back out of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from crrg.errors import ConfigError
from crrg.importers.licences import LICENCES

if TYPE_CHECKING:
    import torch

    from crrg.data.published_tokenizers import TokenizerKind
    from crrg.importers.imported import ImportedStage
    from crrg.inference.published_clip import PublishedClip
    from crrg.inference.report_annotator import ReportAnnotator
    from crrg.inference.report_labeler import ReportLabeler


def licence_of(kind: str) -> str:
    """Return what may be done with the weights of a kind of checkpoint.

    Raises:
        ConfigError: There is no such kind.
    """
    if kind not in LICENCES:
        raise ConfigError(f"no published checkpoint of this kind is known; one of {', '.join(LICENCES)}", "import")
    return LICENCES[kind]


def import_checkpoint(kind: str, checkpoint: Path, out: Path, tokenizer: Path | None = None) -> dict[str, Any]:
    """Import a published checkpoint strictly, and write it as safetensors and JSON.

    Args:
        kind: What was published: ``rgrg``, ``cxr-clip``, ``chexzero``, ``chexbert`` or ``radgraph``; ``resnet50``,
            ``gpt2`` or ``bert`` as a place to start a training from; ``sentence-encoder`` to find repeats with.
        checkpoint: Its file; for ``radgraph`` also a folder with the content of its archive; the folder of a
            ``sentence-encoder``.
        out: Folder for one folder per stage and ``key_report.json``.
        tokenizer: The vocabulary, which is published apart from the checkpoint: a ``tokenizer.json``; for ``cxr-clip``,
            ``chexbert``, ``radgraph`` and ``bert`` also BERT's ``vocab.txt``, for ``chexzero`` CLIP's list of merges. A
            ``sentence-encoder`` has it in its folder.

    Returns:
        The key report.

    Raises:
        ConfigError: There is no such kind, or no such tokenizer file.
        ModelError: The file is not what its kind says; nothing is written.
    """
    licence = licence_of(kind)
    if tokenizer is not None and not tokenizer.is_file():
        raise ConfigError("there is no tokenizer file at this path", "tokenizer")
    from crrg.importers.imported import write_import

    return write_import(_read(kind, checkpoint, tokenizer), out, kind, licence)


def load_published_clip(folder: Path, device: torch.device) -> PublishedClip:
    """Load an imported CLIP, ready to read films and texts.

    Args:
        folder: What ``crrg import cxr-clip`` or ``crrg import chexzero`` wrote to.
        device: Where to put it.

    Raises:
        ModelError: The folder holds no imported CLIP, or it is damaged.
    """
    from crrg.inference.published_clip import PublishedClip
    from crrg.registry.imported import read_import

    return PublishedClip.from_files(*read_import(folder, "clip"), device)


def load_report_labeler(folder: Path, device: torch.device) -> ReportLabeler:
    """Load an imported CheXbert, ready to read reports.

    Args:
        folder: What ``crrg import chexbert`` wrote to.
        device: Where to put it.

    Raises:
        ModelError: The folder holds no imported CheXbert, it is damaged, or it was imported without a vocabulary.
    """
    from crrg.inference.report_labeler import ReportLabeler
    from crrg.registry.imported import read_import

    return ReportLabeler.from_files(*read_import(folder, "chexbert"), device)


def load_report_annotator(folder: Path, device: torch.device) -> ReportAnnotator:
    """Load an imported RadGraph, ready to read reports.

    Args:
        folder: What ``crrg import radgraph`` wrote to.
        device: Where to put it.

    Raises:
        ModelError: The folder holds no imported RadGraph, it is damaged, or it was imported without a vocabulary.
    """
    from crrg.inference.report_annotator import ReportAnnotator
    from crrg.registry.imported import read_import

    return ReportAnnotator.from_files(*read_import(folder, "radgraph"), device)


def import_markdown(report: dict[str, Any]) -> str:
    """Return the key report as a table of numbers, with what the licence says and what is still missing."""
    lines = [
        f"Imported {report['source']}. Licence: {report['licence']}.",
        "",
        "| stage | parameters | keys taken | aliases | dropped | own | sha256 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for stage, found in report["stages"].items():
        counts = " | ".join(str(len(found[name])) for name in ("taken", "aliases", "dropped", "own"))
        lines.append(f"| {stage} | {found['num_parameters']:,} | {counts} | `{found['sha256'][:16]}` |")
    lines += [f"{stage}: {remark}" for stage, found in report["stages"].items() for remark in found["remarks"]]
    lines += [
        f"{stage}: no vocabulary was given, so no text can be read; import again with --tokenizer."
        for stage, found in report["stages"].items()
        if found["lacks_tokenizer"]
    ]
    return "\n".join(lines)


def _read(kind: str, checkpoint: Path, tokenizer: Path | None) -> list[ImportedStage]:
    """Read a checkpoint of a known kind; importers are imported here, so that a command's help needs no torch."""
    from crrg.importers import chexbert, chexzero, cxr_clip, plain_towers, radgraph, rgrg, sentence_encoder

    match kind:
        case "rgrg":
            return rgrg.import_rgrg(checkpoint, _vocabulary(tokenizer, None))
        case "cxr-clip":
            return cxr_clip.import_cxr_clip(checkpoint, _vocabulary(tokenizer, "bert"))
        case "chexzero":
            return chexzero.import_chexzero(checkpoint, _vocabulary(tokenizer, "clip"))
        case "radgraph":
            return radgraph.import_radgraph(checkpoint, _vocabulary(tokenizer, "bert"))
        case "resnet50":
            if tokenizer is not None:
                raise ConfigError("this network reads no text; leave --tokenizer out", "tokenizer")
            return plain_towers.import_resnet50(checkpoint)
        case "gpt2":
            return plain_towers.import_gpt2(checkpoint, _vocabulary(tokenizer, None))
        case "bert":
            return plain_towers.import_bert(checkpoint, _vocabulary(tokenizer, "bert"))
        case "sentence-encoder":
            return sentence_encoder.import_sentence_encoder(checkpoint, _vocabulary(tokenizer, "bert"))
        case _:
            return chexbert.import_chexbert(checkpoint, _vocabulary(tokenizer, "bert"))


def _vocabulary(path: Path | None, kind: TokenizerKind | None) -> bytes | None:
    """Return the bytes of the ``tokenizer.json`` that a file is, or is turned into where it is of a published kind."""
    from crrg.data.published_tokenizers import read_tokenizer

    if path is None:
        return None
    return path.read_bytes() if kind is None else read_tokenizer(path, kind)
