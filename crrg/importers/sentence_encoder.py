"""A BERT or DistilBERT in a folder of the transformers library as an encoder of sentences.

What is kept are the blocks up to the one whose vectors BERTScore compares: the fifth of DistilBERT's six, the ninth of
BERT's twelve, the eighteenth of its twenty-four, the last of any other.

Source: BERTScore (Zhang et al., ICLR 2020) for the blocks; names of the transformers library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from crrg.config.report_models import SentenceEncoderArchitecture
from crrg.data.published_tokenizers import PublishedTokenizer, read_tokenizer
from crrg.errors import ModelError
from crrg.importers.clip_towers import num_blocks, shape_of
from crrg.importers.imported import ImportedStage
from crrg.importers.key_map import Rule, fit_module
from crrg.importers.licences import LICENCES
from crrg.importers.plain_towers import BERT_RULES
from crrg.importers.torch_file import TorchContents
from crrg.importers.vocabulary import check_vocabulary
from crrg.importers.weights_file import open_weights_file
from crrg.models.sentence_encoder import SentenceEncoder

SOURCE = "sentence-encoder"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
VOCABULARY_FILES = ("tokenizer.json", "vocab.txt")
COMPARED_BLOCK: Mapping[tuple[str, int], int] = {("distilbert", 6): 5, ("bert", 12): 9, ("bert", 24): 18}
"""By kind and number of blocks."""
WAY_OUT = "give the folder of a BERT or DistilBERT with config.json, model.safetensors and its vocabulary"

_BLOCK = r"(?:distilbert\.)?transformer\.layer\.(\d+)\."
_OURS = r"bert.encoder.layer.\1."
_DISTILBERT_RULES = (
    Rule(r"(?:distilbert\.)?embeddings\.position_ids", None),
    Rule(r"vocab_(?:transform|layer_norm|projector)\..+", None),
    Rule(r"(?:distilbert\.)?(embeddings\..+)", r"bert.\1"),
    Rule(_BLOCK + r"attention\.q_lin\.(.+)", _OURS + r"attention.self.query.\2"),
    Rule(_BLOCK + r"attention\.k_lin\.(.+)", _OURS + r"attention.self.key.\2"),
    Rule(_BLOCK + r"attention\.v_lin\.(.+)", _OURS + r"attention.self.value.\2"),
    Rule(_BLOCK + r"attention\.out_lin\.(.+)", _OURS + r"attention.output.dense.\2"),
    Rule(_BLOCK + r"sa_layer_norm\.(.+)", _OURS + r"attention.output.LayerNorm.\2"),
    Rule(_BLOCK + r"ffn\.lin1\.(.+)", _OURS + r"intermediate.dense.\2"),
    Rule(_BLOCK + r"ffn\.lin2\.(.+)", _OURS + r"output.dense.\2"),
    Rule(_BLOCK + r"output_layer_norm\.(.+)", _OURS + r"output.LayerNorm.\2"),
)
_SEGMENTS = "bert.embeddings.token_type_embeddings.weight"


def import_sentence_encoder(folder: Path, tokenizer: bytes | None = None) -> list[ImportedStage]:
    """Read an encoder of sentences from a folder.

    Args:
        folder: With ``config.json``, ``model.safetensors`` (or ``pytorch_model.bin``), and ``tokenizer.json`` or
            ``vocab.txt``.
        tokenizer: Bytes of another ``tokenizer.json``; the folder's own where not given.

    Returns:
        One part ``sentence-encoder``.

    Raises:
        ModelError: A file is missing, the network is of another kind, or a key is missing, unknown or of another shape.
    """
    settings = _settings(folder)
    kind = settings.get("model_type")
    weights = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if weights is None:
        raise ModelError(f"the folder has no {' or '.join(WEIGHT_FILES)}; {WAY_OUT}", SOURCE)
    speller = PublishedTokenizer(_vocabulary(folder) if tokenizer is None else tokenizer, "bert")
    with open_weights_file(weights) as contents:
        architecture, blocks = _architecture(settings, contents)
        module = SentenceEncoder(architecture)
        is_distilled = kind == "distilbert"
        if is_distilled:
            torch.nn.init.zeros_(module.bert.embeddings.token_type_embeddings.weight)
        # blocks behind the compared one
        behind = "|".join(str(number) for number in range(architecture.num_layers, blocks)) or "none"
        above = Rule(rf"(?:.+\.)?(?:encoder|transformer)\.layer\.(?:{behind})\..+", None)
        rules = (above, *(_DISTILBERT_RULES if is_distilled else BERT_RULES))
        report = fit_module(module, contents, rules, SOURCE, own=(_SEGMENTS,) if is_distilled else ())
    check_vocabulary(speller.vocab_size, architecture.vocab_size, "network")
    config = {
        "architecture": architecture.model_dump(mode="json"),
        "imported_from": SOURCE,
        "licence": LICENCES[SOURCE],
        "tokenizer_sha256": speller.sha256,
    }
    return [ImportedStage(SOURCE, module, config, asdict(report), {"tokenizer.json": speller.to_bytes()})]


def _architecture(settings: Mapping[str, Any], contents: TorchContents) -> tuple[SentenceEncoderArchitecture, int]:
    """Return the sizes of what is kept, and how many blocks the network has."""
    kind = settings.get("model_type")
    is_distilled = kind == "distilbert"
    names = {"heads": "n_heads", "activation": "activation"} if is_distilled else {
        "heads": "num_attention_heads", "activation": "hidden_act"
    }  # fmt: skip
    activation, positions = settings.get(names["activation"], "gelu"), settings.get("position_embedding_type")
    if kind not in ("bert", "distilbert") or activation != "gelu" or positions not in (None, "absolute"):
        raise ModelError(
            f"config.json says {kind} with {activation} and {positions or 'absolute'} positions; known are bert and "
            f"distilbert with gelu and absolute positions. {WAY_OUT[0].upper()}{WAY_OUT[1:]}",
            SOURCE,
        )
    prefix = f"{kind}." if f"{kind}.embeddings.word_embeddings.weight" in contents else ""
    stack = f"{prefix}{'transformer' if is_distilled else 'encoder'}.layer"
    inner = f"{stack}.0.{'ffn.lin1' if is_distilled else 'intermediate.dense'}.weight"
    vocab_size, width = shape_of(contents, f"{prefix}embeddings.word_embeddings.weight", SOURCE)
    blocks, types = num_blocks(contents, stack), f"{prefix}embeddings.token_type_embeddings.weight"
    try:
        architecture = SentenceEncoderArchitecture(
            num_layers=COMPARED_BLOCK.get((str(kind), blocks), blocks),
            num_heads=settings[names["heads"]],
            hidden_size=width,
            vocab_size=vocab_size,
            num_positions=shape_of(contents, f"{prefix}embeddings.position_embeddings.weight", SOURCE)[0],
            num_types=1 if is_distilled else shape_of(contents, types, SOURCE)[0],
            feed_forward_size=shape_of(contents, inner, SOURCE)[0],
            norm_epsilon=settings.get("layer_norm_eps", 1e-12),
        )
    except (KeyError, ValidationError) as error:
        raise ModelError(f"the sizes in config.json and tensors fit no such network: {error}", SOURCE) from error
    if width % architecture.num_heads:
        raise ModelError(f"{architecture.num_heads} heads do not share a width of {width}; {WAY_OUT}", SOURCE)
    return architecture, blocks


def _settings(folder: Path) -> dict[str, Any]:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"there is no config.json that can be read; {WAY_OUT}", SOURCE) from error
    if not isinstance(settings, dict):
        raise ModelError(f"config.json holds no settings; {WAY_OUT}", SOURCE)
    return settings


def _vocabulary(folder: Path) -> bytes:
    """Return the ``tokenizer.json`` of a folder, or what its ``vocab.txt`` is as one."""
    found = next((folder / name for name in VOCABULARY_FILES if (folder / name).is_file()), None)
    if found is None:
        raise ModelError(
            f"the folder has no {' or '.join(VOCABULARY_FILES)}; put it there, or give it with --tokenizer", SOURCE
        )
    try:
        about = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        lower_case = bool(about.get("do_lower_case", True))
    except (OSError, ValueError, AttributeError):
        lower_case = True
    return read_tokenizer(found, "bert", lower_case=lower_case)
