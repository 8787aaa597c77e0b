"""CXR-CLIP's published checkpoints, ResNet-50 and Swin-T, also fine-tuned ones, as our CLIP.

The towers are told by the configuration in the file and by its tensors, which must agree; never by the file's name. A
fine-tuned file has an image tower and a classifier alone: it reads labels and knows no texts. What its configuration
says of another file to load first is not looked at.

Source: layout of CXR-CLIP (You et al., MICCAI 2023), with names of older and newer transformers.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from crrg.config.models import ClipArchitecture
from crrg.config.paper import CXR_CLIP_RESNET50, CXR_CLIP_SWIN
from crrg.errors import ModelError
from crrg.importers.clip_towers import (
    clip_config,
    num_blocks,
    num_heads,
    resized,
    resnet_rules,
    shape_of,
    with_tokenizer,
)
from crrg.importers.imported import ImportedStage
from crrg.importers.key_map import Rule, fit_module
from crrg.importers.licences import LICENCES
from crrg.importers.torch_file import TorchContents, open_torch_file
from crrg.models.clip import ClipModel

SOURCE = "cxr-clip"

_SWIN = "image_encoder.image_encoder"
_BERT = "text_encoder.text_encoder"
_SWIN_BLOCK = r"image_encoder\.image_encoder\.(encoder\.layers\.\d+\.blocks\.\d+)\."
_IMAGE_RULES = (
    *resnet_rules(r"image_encoder\.resnet\.", "image_tower."),
    Rule(r"image_encoder\.image_encoder\.(embeddings\..+)", r"image_tower.swin.\1"),
    Rule(_SWIN_BLOCK + r"attention\.self\.relative_position_index", None),
    Rule(
        _SWIN_BLOCK + r"attention\.self\.relative_position_bias_table",
        r"image_tower.swin.\1.attention.relative_position_bias.relative_position_bias_table",
    ),
    *(
        Rule(_SWIN_BLOCK + rf"attention\.self\.{word}\.(.+)", rf"image_tower.swin.\1.attention.{word[0]}_proj.\2")
        for word in ("query", "key", "value")
    ),
    Rule(_SWIN_BLOCK + r"attention\.output\.dense\.(.+)", r"image_tower.swin.\1.attention.o_proj.\2"),
    Rule(_SWIN_BLOCK + r"intermediate\.dense\.(.+)", r"image_tower.swin.\1.mlp.fc1.\2"),
    Rule(_SWIN_BLOCK + r"output\.dense\.(.+)", r"image_tower.swin.\1.mlp.fc2.\2"),
    Rule(_SWIN_BLOCK + r"(layernorm_(?:before|after)\..+)", r"image_tower.swin.\1.\2"),
    Rule(
        r"image_encoder\.image_encoder\.(encoder\.layers\.\d+\.downsample\.(?:reduction|norm)\..+|layernorm\..+)",
        r"image_tower.swin.\1",
    ),
)
_TEXT_RULES = (
    Rule(r"text_encoder\.text_encoder\.embeddings\.(?:position_ids|token_type_ids)", None),
    Rule(r"text_encoder\.text_encoder\.pooler\..+", None),
    Rule(r"text_encoder\.text_encoder\.((?:embeddings|encoder)\..+)", r"text_tower.bert.\1"),
)
_MLP_RULES = (Rule(r"(image|text)_projection\.((?:projection|fc|layer_norm)\..+)", r"\1_projection.\2"),)
_LINEAR_RULES = (Rule(r"(image|text)_projection\.projection\.(.+)", r"\1_projection.\2"),)
_SCALE_RULES = (Rule(r"logit_scale", "logit_scale"),)
_HEAD_RULES = (Rule(r"classifier\.classification_head\.(.+)", r"label_head.whole.\1"),)


def import_cxr_clip(path: Path, tokenizer: bytes | None = None) -> list[ImportedStage]:
    """Read a published checkpoint into our CLIP.

    Args:
        path: ``model-best.tar``, ``r50_*.tar`` or ``swint_*.tar``; also a fine-tuned one.
        tokenizer: Bytes of Bio_ClinicalBERT's ``tokenizer.json``; without it films can be read, but no texts.

    Returns:
        One stage ``clip``.

    Raises:
        ModelError: The file is no such checkpoint, or a key is missing, unknown or of another shape.
    """
    with open_torch_file(path) as contents:
        return [read_cxr_clip(contents, tokenizer)]


def read_cxr_clip(contents: TorchContents, tokenizer: bytes | None = None) -> ImportedStage:
    """Read what a published file held into our CLIP; see ``import_cxr_clip``."""
    model = contents.below("model")
    told = {name: str(value) for name, value in contents.below("config.model").values.items()}
    tower = _tower(model, told)
    if "classifier.classification_head.weight" in model:
        return _classifier(model, tower, told)
    return _clip(model, tower, told, tokenizer)


def _clip(
    model: TorchContents, tower: ClipArchitecture, told: dict[str, str], tokenizer: bytes | None
) -> ImportedStage:
    pooling = told.get("text_encoder.pooling", "eos")
    if pooling != "eos":
        raise ModelError(f"the text tower pools by {pooling!r}; only 'eos', the published one, is known", SOURCE)
    vocab_size, width = shape_of(model, f"{_BERT}.embeddings.word_embeddings.weight", SOURCE)
    positions, _ = shape_of(model, f"{_BERT}.embeddings.position_embeddings.weight", SOURCE)
    is_mlp = "image_projection.fc.weight" in model
    architecture = resized(
        tower,
        SOURCE,
        text_layers=num_blocks(model, f"{_BERT}.encoder.layer"),
        text_heads=num_heads(width),
        text_hidden_size=width,
        text_vocab_size=vocab_size,
        max_text_length=min(tower.max_text_length, positions),
        text_positions=positions,
        text_types=shape_of(model, f"{_BERT}.embeddings.token_type_embeddings.weight", SOURCE)[0],
        projection="mlp" if is_mlp else "linear",
        projection_size=shape_of(model, "image_projection.projection.weight", SOURCE)[0],
    )
    rules = (*_IMAGE_RULES, *_TEXT_RULES, *(_MLP_RULES if is_mlp else _LINEAR_RULES), *_SCALE_RULES)
    config, files = with_tokenizer(_config(architecture, told), tokenizer, architecture, "bert")
    return _filled(architecture, model, rules, config, files)


def _classifier(model: TorchContents, tower: ClipArchitecture, told: dict[str, str]) -> ImportedStage:
    num_labels, width = shape_of(model, "classifier.classification_head.weight", SOURCE)
    architecture = resized(
        tower,
        SOURCE,
        text_tower="none",
        label_head="linear",
        num_labels=num_labels,
        head_dropout=0.0,
        projection_size=width,
    )
    config = {name: value for name, value in _config(architecture, told).items() if not name.startswith("tokenizer")}
    return _filled(architecture, model, (*_IMAGE_RULES, *_HEAD_RULES), config, {})


def _filled(
    architecture: ClipArchitecture,
    model: TorchContents,
    rules: tuple[Rule, ...],
    config: dict[str, Any],
    files: dict[str, bytes],
) -> ImportedStage:
    module = ClipModel(architecture)
    own = ("logit_scale",) if architecture.text_tower == "none" else ()
    report = fit_module(module, model, rules, SOURCE, own=own)
    return ImportedStage("clip", module, config, asdict(report), files)


def _config(architecture: ClipArchitecture, told: dict[str, str]) -> dict[str, Any]:
    says = any(name.startswith("image_encoder.") for name in told)
    return {
        **clip_config(architecture, SOURCE, "center_crop", LICENCES[SOURCE], "bert"),
        "architecture_from": "configuration and tensors" if says else "tensors",
    }


def _tower(model: TorchContents, told: dict[str, str]) -> ClipArchitecture:
    """Return the architecture with the image tower that configuration and tensors agree on."""
    names = [value.lower() for name, value in told.items() if name.startswith("image_encoder.")]
    says_swin = any("swin" in name for name in names)
    says_resnet = any("resnet" in name for name in names)
    if "image_encoder.resnet.conv1.weight" in model and not says_swin:
        return CXR_CLIP_RESNET50
    if f"{_SWIN}.embeddings.patch_embeddings.projection.weight" in model and not says_resnet:
        return _swin(model)
    raise ModelError(
        "the file's configuration and tensors agree on neither a ResNet-50 nor a Swin-T; "
        "give a file as CXR-CLIP's authors publish it",
        SOURCE,
    )


def _swin(model: TorchContents) -> ClipArchitecture:
    width, _, patch, _ = shape_of(model, f"{_SWIN}.embeddings.patch_embeddings.projection.weight", SOURCE, 4)
    stages = range(num_blocks(model, f"{_SWIN}.encoder.layers"))
    tables = [
        shape_of(model, f"{_SWIN}.encoder.layers.{stage}.blocks.0.attention.self.relative_position_bias_table", SOURCE)
        for stage in stages
    ]
    if not tables:
        raise ModelError("it has no encoder layers; the file is not the published layout", SOURCE)
    return resized(
        CXR_CLIP_SWIN,
        SOURCE,
        image_width=width,
        image_layers=tuple(num_blocks(model, f"{_SWIN}.encoder.layers.{stage}.blocks") for stage in stages),
        image_heads=tuple(heads for _, heads in tables),
        patch_size=patch,
        window_size=round((tables[0][0] ** 0.5 + 1) / 2),
    )
