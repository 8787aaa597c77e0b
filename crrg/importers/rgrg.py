"""RGRG's published full model and stage-1 detector files, as our detector, selector and generator.

The language model stores the same tensors under several names; ours keeps one. The token table serves as position
table, as in the published model. The vocabulary is not in the checkpoint.

Source: layout of RGRG (Tanida et al., CVPR 2023), torch 1.12 and torchvision 0.13 names and the newer ones.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
from crrg.errors import ModelError
from crrg.importers.clip_towers import shape_of
from crrg.importers.imported import ImportedStage
from crrg.importers.key_map import Rule, fit_module
from crrg.importers.torch_file import TorchContents, open_torch_file
from crrg.importers.vocabulary import check_vocabulary
from crrg.models.detector import RegionDetector
from crrg.models.products import with_output_rows
from crrg.models.region_heads import FeatureSelector
from crrg.models.report_generator import ReportGenerator

HEAD_SIZE = 64
"""Width of an attention head of every GPT-2."""

_DETECTOR_RULES = (
    Rule(r"backbone\.(.+)", r"backbone.body.\1"),
    Rule(r"rpn\.head\.conv\.0\.0\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    Rule(r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    Rule(r"rpn\.head\.((?:cls_logits|bbox_pred)\..+)", r"rpn.head.\1"),
    Rule(r"roi_heads\.box_head\.(fc[67]\..+)", r"box_head.\1"),
    Rule(r"roi_heads\.box_predictor\.((?:cls_score|bbox_pred)\..+)", r"box_head.\1"),
)
_DIM_REDUCTION = r"roi_heads\.dim_reduction\..+"
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
        return [_detector(model)]
    if "object_detector.backbone.0.weight" not in model:
        raise ModelError("the file holds neither RGRG's full model nor its detector", "rgrg")
    return [_detector(model.below("object_detector")), _selector(model), _generator(model, tokenizer)]


def detector_architecture(contents: TorchContents) -> DetectorArchitecture:
    """Return the paper's detector with the sizes that a detector's tensors have."""
    width, pooled = _shape(contents, "roi_heads.box_head.fc6.weight")
    channels = _shape(contents, "rpn.head.cls_logits.weight", num_dims=4)[1]
    return PAPER_DETECTOR.model_copy(
        update={
            "representation_size": width,
            "roi_size": round((pooled / channels) ** 0.5),
            "num_regions": _shape(contents, "roi_heads.box_predictor.cls_score.weight")[0] - 1,
        }
    )


def generator_architecture(contents: TorchContents) -> GeneratorArchitecture:
    """Return the paper's generator with the sizes that a language model's tensors have."""
    vocab_size, width = _shape(contents, *(f"{prefix}wte.weight" for prefix in _TABLES))
    blocks = {found[1] or found[2] for name in contents.names() if (found := re.match(_ANY_BLOCK, name))}
    return PAPER_GENERATOR.model_copy(
        update={
            "num_layers": len(blocks),
            "num_heads": max(1, width // HEAD_SIZE),
            "hidden_size": width,
            "vocab_size": vocab_size,
            "max_length": _shape(contents, *(f"{prefix}wpe.weight" for prefix in _TABLES))[0],
            "feature_size": _shape(contents, "feature_space_transformation_nn.0.weight")[1],
        }
    )


def _detector(contents: TorchContents) -> ImportedStage:
    architecture = detector_architecture(contents)
    module = RegionDetector(architecture)
    report = fit_module(
        module, contents, _DETECTOR_RULES, "detector", own=(r"shape_prior\..+",), ignore=(_DIM_REDUCTION,)
    )
    return ImportedStage("detector", module, _config(architecture), asdict(report))


def _selector(contents: TorchContents) -> ImportedStage:
    feature_size, width = _shape(contents, "object_detector.roi_heads.dim_reduction.weight")
    architecture: SelectorArchitecture = PAPER_SELECTOR.model_copy(
        update={"width": width, "feature_size": feature_size}
    )
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
    return ImportedStage("generator", with_output_rows(module), config, asdict(report), files)


def _config(architecture: DetectorArchitecture | SelectorArchitecture | GeneratorArchitecture) -> dict[str, Any]:
    return {"architecture": architecture.model_dump(mode="json"), "imported_from": "rgrg"}


def _shape(contents: TorchContents, *names: str, num_dims: int = 2) -> tuple[int, ...]:
    """Return the shape of a tensor, given the names that it may have."""
    found = next((name for name in names if name in contents), names[0])
    return shape_of(contents, found, "rgrg", num_dims)
