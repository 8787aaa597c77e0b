"""CheXbert's published checkpoint as our report labeler.

Strict but for the positions that older transformers stored as numbers, and the pooler that nothing uses.

Source: layout of CheXbert (Smit et al., EMNLP 2020).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from crrg.config.report_models import ReportLabelerArchitecture
from crrg.data.published_tokenizers import PublishedTokenizer
from crrg.errors import ModelError
from crrg.importers.clip_towers import num_blocks, num_heads, shape_of
from crrg.importers.imported import PUBLISHED_FILE, ImportedStage
from crrg.importers.key_map import Rule, fit_module
from crrg.importers.licences import LICENCES
from crrg.importers.torch_file import TorchContents, open_torch_file
from crrg.importers.vocabulary import check_vocabulary
from crrg.models.report_labeler import ReportClassifier

SOURCE = "chexbert"
_RULES = (
    Rule(r"bert\.embeddings\.position_ids", None),
    Rule(r"bert\.pooler\..+", None),
    Rule(r"bert\.((?:embeddings|encoder)\..+)", r"bert.\1"),
    Rule(r"linear_heads\.(\d+\..+)", r"heads.\1"),
)


def import_chexbert(path: Path, tokenizer: bytes | None = None) -> list[ImportedStage]:
    """Read the published checkpoint into our report labeler.

    Args:
        path: ``chexbert.pth``.
        tokenizer: Bytes of the ``tokenizer.json`` of bert-base-uncased; without it no report can be read.

    Returns:
        One stage ``chexbert``.

    Raises:
        ModelError: The file is no such checkpoint, or a key is missing, unknown or of another shape.
    """
    with open_torch_file(path) as contents:
        return [read_chexbert(contents, tokenizer)]


def read_chexbert(contents: TorchContents, tokenizer: bytes | None = None) -> ImportedStage:
    """Read what the published file held into our report labeler; see ``import_chexbert``."""
    model = contents.below("model_state_dict").below("module")
    vocab_size, width = shape_of(model, "bert.embeddings.word_embeddings.weight", SOURCE)
    try:
        architecture = ReportLabelerArchitecture(
            num_layers=num_blocks(model, "bert.encoder.layer"),
            num_heads=num_heads(width),
            hidden_size=width,
            vocab_size=vocab_size,
            num_positions=shape_of(model, "bert.embeddings.position_embeddings.weight", SOURCE)[0],
            num_types=shape_of(model, "bert.embeddings.token_type_embeddings.weight", SOURCE)[0],
        )
    except ValidationError as error:
        raise ModelError(f"the sizes of the tensors fit no such network; {PUBLISHED_FILE}", SOURCE) from error
    module = ReportClassifier(architecture)
    report = fit_module(module, model, _RULES, SOURCE)
    config = {
        "architecture": architecture.model_dump(mode="json"),
        "imported_from": SOURCE,
        "licence": LICENCES[SOURCE],
        "tokenizer_sha256": "",
    }
    if tokenizer is None:
        return ImportedStage("chexbert", module, config, asdict(report))
    speller = PublishedTokenizer(tokenizer, "bert")
    check_vocabulary(speller.vocab_size, vocab_size, "network")
    config["tokenizer_sha256"] = speller.sha256
    return ImportedStage("chexbert", module, config, asdict(report), {"tokenizer.json": tokenizer})
