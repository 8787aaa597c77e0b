"""RGRG's published full model and stage-1 detector files, as our detector, selector and generator.

The language model stores the same tensors under several names; ours keeps one. The token table serves as position
table, as in the published model. The vocabulary is not in the checkpoint.

Source: layout of RGRG (Tanida et al., CVPR 2023), torch 1.12 and torchvision 0.13 names and the newer ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import nn

from crrg.config.models import DetectorArchitecture, GeneratorArchitecture, SelectorArchitecture
from crrg.config.paper import (
    PAPER_DECODING,
    PAPER_DETECTOR,
    PAPER_GENERATOR,
    PAPER_SELECTOR,
    paper_thresholds,
)
from crrg.data.tokenizer import PhraseTokenizer
from crrg.domain.regions import NUM_REGIONS
from crrg.errors import ModelError
from crrg.importers.clip_towers import shape_of
from crrg.importers.imported import PUBLISHED_FILE, ImportedStage
from crrg.importers.key_map import Rule, fit_module
from crrg.importers.torch_file import TorchContents, open_torch_file
from crrg.importers.vocabulary import check_vocabulary
from crrg.models.detector import RegionDetector
from crrg.models.products import with_output_rows
from crrg.models.region_heads import FeatureSelector
from crrg.models.report_generator import ReportGenerator

HEAD_SIZE = 64
"""Width of an attention head of every GPT-2."""
_Architecture = TypeVar("_Architecture", DetectorArchitecture, SelectorArchitecture, GeneratorArchitecture)

_DETECTOR_RULES = (
    Rule(r"backbone\.(.+)", r"backbone.body.\1"),
    Rule(r"rpn\.head\.conv\.0\.0\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    Rule(r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    Rule(r"rpn\.head\.((?:cls_logits|bbox_pred)\..+)", r"rpn.head.\1"),
    Rule(r"roi_heads\.box_head\.(fc[67]\..+)", r"box_head.\1"),
    Rule(r"roi_heads\.box_predictor\.((?:cls_score|bbox_pred)\..+)", r"box_head.\1"),
)
_DIM_REDUCTION = r"roi_heads\.dim_reduction\..+"
"""Learns with the selector, whose it is; a stage-1 file has it as it was before it learnt."""
_SELECTOR_RULES = (
    Rule(r"object_detector\.roi_heads\.dim_reduction\.(.+)", r"dim_reduction.\1"),
    Rule(r"binary_classifier_region_selection\.classifier\.(.+)", r"selection.\1"),
    Rule(r"binary_classifier_region_abnormal\.classifier\.(.+)", r"abnormal.\1"),
    Rule(r"binary_classifier_region_(?:selection|abnormal)\.loss_fn\.pos_weight", None),
)
_BLOCK = r"(?:gpt_with_lm_head\.transformer\.h|gpt\.h)\.(\d+)\."
_ANY_BLOCK = rf"{_BLOCK}|gpt2_blocks\.(\d+)\."
_TABLES = ("gpt_with_lm_head.transformer.", "gpt.", "")
"""What may stand before the names of the tables of words and positions."""
_GENERATOR_RULES = (
    Rule(r".*\.(?:causal_mask|mask_out_value|masked_bias)", None),
    Rule(_BLOCK + r"attn\.bias", None),
    Rule(r"gpt2_blocks\.\d+\.1\.bias", None),
    Rule(r"feature_space_transformation_nn\.(.+)", r"feature_space_transformation.\1"),
    Rule(
        r"(?:(?:gpt_with_lm_head\.transformer\.|gpt\.)?wte|(?:gpt_with_lm_head\.)?lm_head)\.weight",
        "decoder.transformer.wte.weight",
    ),
    Rule(r"(?:gpt_with_lm_head\.transformer\.|gpt\.)?wpe\.weight", "decoder.transformer.wpe.weight"),
    Rule(r"(?:gpt_with_lm_head\.transformer\.ln_f|gpt\.ln_f|final_layernorm)\.(.+)", r"decoder.transformer.ln_f.\1"),
    Rule(_BLOCK + r"(.+)", r"decoder.transformer.h.\1.\2"),
    Rule(r"gpt2_blocks\.(\d+)\.0\.(.+)", r"decoder.transformer.h.\1.ln_1.\2"),
    Rule(r"gpt2_blocks\.(\d+)\.1\.(.+)", r"decoder.transformer.h.\1.attn.\2"),
    Rule(r"gpt2_blocks\.(\d+)\.2\.(.+)", r"decoder.transformer.h.\1.ln_2.\2"),
    Rule(r"gpt2_blocks\.(\d+)\.3\.(.+)", r"decoder.transformer.h.\1.mlp.\2"),
)


def import_rgrg(path: Path, tokenizer: bytes | None = None) -> list[ImportedStage]:
    """Read a published full model, or a stage-1 detector file, into our networks.

    Args:
        path: The ``.pt`` of the full model, or the ``.pth`` of a detector.
        tokenizer: Bytes of the language model's ``tokenizer.json``; without it the generator cannot spell words.

    Returns:
        Detector, selector and generator; the detector alone for a stage-1 file.

    Raises:
        ModelError: The file is no such checkpoint, or a key is missing, unknown or of another shape.
    """
    with open_torch_file(path) as contents:
        return stages_of(contents, tokenizer)


def stages_of(contents: TorchContents, tokenizer: bytes | None = None) -> list[ImportedStage]:
    """Return what ``import_rgrg`` does, of a file that was read.

    Raises:
        ModelError: It is no such checkpoint, or a key is missing, unknown or of another shape.
    """
    model = contents.below("model") if "model.object_detector.backbone.0.weight" in contents else contents
    if "backbone.0.weight" in model:
        return [_detector(model, is_alone=True)]
    if "object_detector.backbone.0.weight" not in model:
        raise ModelError(f"the file holds neither RGRG's full model nor its detector; {PUBLISHED_FILE}", "rgrg")
    return [_detector(model.below("object_detector"), is_alone=False), _selector(model), _generator(model, tokenizer)]


def detector_architecture(contents: TorchContents) -> DetectorArchitecture:
    """Return the paper's detector with the sizes that a detector's tensors have.

    Raises:
        ModelError: A tensor is missing, or no such network can have these sizes.
    """
    head, classes = "roi_heads.box_head.fc6.weight", "roi_heads.box_predictor.cls_score.weight"
    width, pooled = _shape(contents, head)
    channels = _shape(contents, "rpn.head.cls_logits.weight", num_dims=4)[1]
    num_regions = _shape(contents, classes)[0] - 1
    if num_regions != NUM_REGIONS:
        raise ModelError(f"{classes} tells {num_regions} regions apart, not {NUM_REGIONS}; {PUBLISHED_FILE}", "rgrg")
    sizes = {"representation_size": (width, head), "roi_size": (round((pooled / channels) ** 0.5), head)}
    return _resized(PAPER_DETECTOR, sizes)


def generator_architecture(contents: TorchContents) -> GeneratorArchitecture:
    """Return the paper's generator with the sizes that a language model's tensors have.

    Raises:
        ModelError: A tensor is missing, or no such network can have these sizes.
    """
    words, places = (tuple(f"{prefix}{table}.weight" for prefix in _TABLES) for table in ("wte", "wpe"))
    vocab_size, width = _shape(contents, *words)
    blocks = {found[1] or found[2] for name in contents.names() if (found := re.match(_ANY_BLOCK, name))}
    image = "feature_space_transformation_nn.0.weight"
    return _resized(
        PAPER_GENERATOR,
        {
            "num_layers": (len(blocks), "the blocks"),
            "num_heads": (max(1, width // HEAD_SIZE), "wte.weight"),
            "hidden_size": (width, "wte.weight"),
            "vocab_size": (vocab_size, "wte.weight"),
            "max_length": (_shape(contents, *places)[0], "wpe.weight"),
            "feature_size": (_shape(contents, image)[1], image),
        },
    )


def _resized(architecture: _Architecture, sizes: Mapping[str, tuple[int, str]]) -> _Architecture:
    """Return one of the paper's architectures with sizes of a file, each with the tensor that has it.

    Raises:
        ModelError: No network can have these sizes.
    """
    found = {field: size for field, (size, _) in sizes.items()}
    try:
        return type(architecture).model_validate({**architecture.model_dump(), **found})
    except ValidationError as error:
        problems = "; ".join(_problem(each["loc"], each["msg"], sizes) for each in error.errors())
        raise ModelError(
            f"no such network has the sizes of the tensors: {problems}; {PUBLISHED_FILE}", "rgrg"
        ) from error


def _problem(place: tuple[int | str, ...], message: str, sizes: Mapping[str, tuple[int, str]]) -> str:
    """Return what is wrong with a size, and the tensor that has it; a rule about several sizes names them itself."""
    field = str(place[0]) if place else ""
    if field not in sizes:
        return message
    size, tensor = sizes[field]
    return f"{field} {size} of {tensor} ({message})"


def _detector(contents: TorchContents, *, is_alone: bool) -> ImportedStage:
    """Return the detector of a stage-1 file, or of a full model, where the selector takes what a detector does not."""
    architecture = detector_architecture(contents)
    module = RegionDetector(architecture)
    report = fit_module(
        module,
        contents,
        (*_DETECTOR_RULES, Rule(_DIM_REDUCTION, None)),
        "detector",
        own=(r"shape_prior\..+",),
        ignore=() if is_alone else (_DIM_REDUCTION,),
    )
    return ImportedStage("detector", module, _config(architecture), asdict(report))


def _selector(contents: TorchContents) -> ImportedStage:
    reduction = "object_detector.roi_heads.dim_reduction.weight"
    feature_size, width = _shape(contents, reduction)
    architecture = _resized(PAPER_SELECTOR, {"width": (width, reduction), "feature_size": (feature_size, reduction)})
    module = FeatureSelector(architecture)
    report = fit_module(
        module,
        contents,
        _SELECTOR_RULES,
        "selector",
        ignore=(r"object_detector\.(?!roi_heads\.dim_reduction\.).+", r"language_model\..+"),
    )
    about = {**_config(architecture), "thresholds": paper_thresholds()}
    return ImportedStage("selector", module, about, asdict(report))


def _generator(contents: TorchContents, tokenizer: bytes | None) -> ImportedStage:
    language_model = contents.below("language_model")
    architecture = generator_architecture(language_model)
    module = ReportGenerator(architecture)
    nn.init.zeros_(module.unknown_feature)  # no published phrase lacks a film, and equal files give equal weights
    report = fit_module(
        module,
        language_model,
        _GENERATOR_RULES,
        "generator",
        own=("feature_mean", "feature_scale", "unknown_feature"),
    )
    config = {**_config(architecture), "decoding": PAPER_DECODING.model_dump(mode="json"), "tokenizer_sha256": ""}
    files: dict[str, bytes] = {}
    if tokenizer is not None:
        speller = PhraseTokenizer(tokenizer)
        check_vocabulary(speller.vocab_size, architecture.vocab_size, "language model")
        files["tokenizer.json"] = tokenizer
        config["tokenizer_sha256"] = speller.sha256
    remarks = told_sizes(architecture)
    return ImportedStage("generator", with_output_rows(module), config, asdict(report), files, remarks)


def told_sizes(architecture: GeneratorArchitecture) -> tuple[str, ...]:
    """Say how many layers were found and how many heads, which no tensor tells, were assumed."""
    layers, heads, width = architecture.num_layers, architecture.num_heads, architecture.hidden_size
    told = (
        f"{layers} layers as in the file; {heads} attention heads, assumed from the width {width} ({HEAD_SIZE} each)."
    )
    usual = PAPER_GENERATOR
    if width != usual.hidden_size or (layers, heads) == (usual.num_layers, usual.num_heads):
        return (told,)
    return (
        told,
        f"Warning: at this width the published model has {usual.num_layers} layers and {usual.num_heads} heads; if "
        f"blocks are missing, {PUBLISHED_FILE}.",
    )


def _config(architecture: DetectorArchitecture | SelectorArchitecture | GeneratorArchitecture) -> dict[str, Any]:
    return {"architecture": architecture.model_dump(mode="json"), "imported_from": "rgrg"}


def _shape(contents: TorchContents, *names: str, num_dims: int = 2) -> tuple[int, ...]:
    """Return the shape of a tensor, given the names that it may have."""
    found = next((name for name in names if name in contents), names[0])
    return shape_of(contents, found, "rgrg", num_dims)
