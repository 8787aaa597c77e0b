"""CheXzero's published checkpoints, in the layout of OpenAI's CLIP, as our CLIP.

Sizes come from the tensors: ViT-B/32 at 224 pixels, or the variant from scratch with patches of 16 at 320 pixels. Half
precision becomes float32, and one matrix of three projections becomes three.

Source: layout of CLIP (Radford et al., ICML 2021); CheXzero (Tiu et al., 2022).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from crrg.config.models import ClipArchitecture
from crrg.config.paper import CHEXZERO
from crrg.errors import ModelError
from crrg.importers.clip_towers import clip_config, num_blocks, num_heads, resized, shape_of, with_tokenizer
from crrg.importers.imported import PUBLISHED_FILE, ImportedStage
from crrg.importers.key_map import Rule, fit_module
from crrg.importers.licences import LICENCES
from crrg.importers.torch_file import TorchContents, open_torch_file
from crrg.models.clip import ClipModel

SOURCE = "chexzero"


def _transposed(tensor: Tensor) -> Tensor:
    """Turn a matrix that is multiplied from the right into a linear layer's weight."""
    return tensor.T


def _block_rules(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Return the renaming of a stack of transformer blocks."""
    block = theirs + r"\.resblocks\.(\d+)\."
    names = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        r"attn\.out_proj": "self_attn.out_proj",
        r"mlp\.c_fc": "mlp.fc1",
        r"mlp\.c_proj": "mlp.fc2",
    }
    return (
        Rule(
            block + r"attn\.in_proj_(weight|bias)",
            ours + r".encoder.layers.\1.self_attn.{part}_proj.\2",
            parts=("q", "k", "v"),
        ),
        *(
            Rule(block + name + r"\.(weight|bias)", ours + rf".encoder.layers.\1.{renamed}.\2")
            for name, renamed in names.items()
        ),
    )


_VIT, _TEXT = "image_tower.vit", "text_tower.transformer"
_RULES = (
    *_block_rules(r"visual\.transformer", _VIT),
    *_block_rules("transformer", _TEXT),
    Rule(r"visual\.class_embedding", f"{_VIT}.embeddings.class_embedding"),
    Rule(r"visual\.positional_embedding", f"{_VIT}.embeddings.position_embedding.weight"),
    Rule(r"visual\.conv1\.weight", f"{_VIT}.embeddings.patch_embedding.weight"),
    Rule(r"visual\.ln_pre\.(weight|bias)", _VIT + r".pre_layrnorm.\1"),
    Rule(r"visual\.ln_post\.(weight|bias)", _VIT + r".post_layernorm.\1"),
    Rule(r"visual\.proj", "image_projection.weight", _transposed),
    Rule(r"token_embedding\.weight", f"{_TEXT}.embeddings.token_embedding.weight"),
    Rule(r"positional_embedding", f"{_TEXT}.embeddings.position_embedding.weight"),
    Rule(r"ln_final\.(weight|bias)", _TEXT + r".final_layer_norm.\1"),
    Rule(r"text_projection", "text_projection.weight", _transposed),
    Rule(r"logit_scale", "logit_scale"),
    Rule(r"input_resolution|context_length|vocab_size", None),
)


def import_chexzero(path: Path, tokenizer: bytes | None = None) -> list[ImportedStage]:
    """Read a published checkpoint into our CLIP.

    Args:
        path: The ``.pt`` file.
        tokenizer: Bytes of CLIP's ``tokenizer.json``; without it films can be read, but no texts.

    Returns:
        One stage ``clip``.

    Raises:
        ModelError: The file is no such checkpoint, or a key is missing, unknown or of another shape.
    """
    with open_torch_file(path) as contents:
        return [read_chexzero(contents, tokenizer)]


def read_chexzero(contents: TorchContents, tokenizer: bytes | None = None) -> ImportedStage:
    """Read what a published file held into our CLIP; see ``import_chexzero``."""
    architecture = chexzero_architecture(contents)
    module = ClipModel(architecture)
    report = fit_module(module, contents, _RULES, SOURCE)
    config = clip_config(architecture, SOURCE, "padded", LICENCES[SOURCE], "clip")
    config, files = with_tokenizer(config, tokenizer, architecture, "clip")
    return ImportedStage("clip", module, config, asdict(report), files)


def chexzero_architecture(contents: TorchContents) -> ClipArchitecture:
    """Return CheXzero's architecture with the sizes that a file's tensors have.

    Raises:
        ModelError: The tensors are not in CLIP's layout with a ViT.
    """
    width, _, patch, _ = shape_of(contents, "visual.conv1.weight", SOURCE, 4)
    num_places = shape_of(contents, "visual.positional_embedding", SOURCE)[0] - 1
    side = round(num_places**0.5)
    if side * side != num_places:
        raise ModelError(
            f"{num_places} image positions do not form a square, so the film's size is unknown; {PUBLISHED_FILE}",
            SOURCE,
        )
    vocab_size, text_width = shape_of(contents, "token_embedding.weight", SOURCE)
    positions, _ = shape_of(contents, "positional_embedding", SOURCE)
    return resized(
        CHEXZERO,
        SOURCE,
        input_size=side * patch,
        image_width=width,
        image_layers=(num_blocks(contents, "visual.transformer.resblocks"),),
        image_heads=(num_heads(width),),
        patch_size=patch,
        text_layers=num_blocks(contents, "transformer.resblocks"),
        text_heads=num_heads(text_width),
        text_hidden_size=text_width,
        text_vocab_size=vocab_size,
        max_text_length=positions,
        projection_size=shape_of(contents, "text_projection", SOURCE)[1],
    )
