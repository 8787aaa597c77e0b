"""Networks of general use as places to start a training from: ResNet-50, GPT-2 and BERT, each under its usual names.

Such a file is no model of radiographs: it makes no stage of a bundle, and is read by ``crrg.training.initial_weights``.
The architecture written beside the weights has only the fields that they decide.

Source: names of torchvision's ResNet-50 (He et al., CVPR 2016); GPT-2 (Radford et al., 2019) and BERT (Devlin et al.,
NAACL 2019) under the names of the transformers library, with and without the name of the whole in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn
from transformers import GPT2Config, GPT2Model

from crrg.config.models import ClipArchitecture, GeneratorArchitecture
from crrg.config.paper import CXR_CLIP_RESNET50
from crrg.data.published_tokenizers import PublishedTokenizer
from crrg.data.tokenizer import PhraseTokenizer
from crrg.errors import ModelError
from crrg.importers.clip_towers import num_blocks, num_heads, resized, resnet_rules, shape_of
from crrg.importers.imported import PUBLISHED_FILE, ImportedStage
from crrg.importers.key_map import Rule, fit_module
from crrg.importers.licences import LICENCES
from crrg.importers.torch_file import TorchContents
from crrg.importers.vocabulary import check_vocabulary
from crrg.importers.weights_file import open_weights_file
from crrg.models.text_towers import BertTower
from crrg.models.towers import ResNet50Tower

_RESNET_RULES = (*resnet_rules("", ""), Rule(r"fc\.(?:weight|bias)", None))
_GPT2_RULES = (
    Rule(r"(?:transformer\.)?h\.\d+\.attn\.(?:bias|masked_bias)", None),
    Rule(r"lm_head\.weight|(?:transformer\.)?wte\.weight", "wte.weight"),
    Rule(r"(?:transformer\.)?((?:wpe|ln_f|h)\..+)", r"\1"),
)
BERT_RULES = (
    Rule(r"(?:bert\.)?embeddings\.(?:position_ids|token_type_ids)", None),
    Rule(r"(?:bert\.)?pooler\..+|cls\..+", None),
    Rule(r"(?:bert\.)?((?:embeddings|encoder)\..*LayerNorm)\.gamma", r"bert.\1.weight"),
    Rule(r"(?:bert\.)?((?:embeddings|encoder)\..*LayerNorm)\.beta", r"bert.\1.bias"),
    Rule(r"(?:bert\.)?((?:embeddings|encoder)\..+)", r"bert.\1"),
)


def import_resnet50(path: Path) -> list[ImportedStage]:
    """Read torchvision's ResNet-50 without its classifier, ImageNet's normalisation beside it.

    Args:
        path: ``.pth`` or ``.safetensors`` of the state dict.

    Returns:
        One part ``resnet50``.

    Raises:
        ModelError: The file is no such network, or a key is missing, unknown or of another shape.
    """
    with open_weights_file(path) as contents:
        return [read_resnet50(contents)]


def read_resnet50(contents: TorchContents) -> ImportedStage:
    """Read what a file held into the body of a ResNet-50; see ``import_resnet50``."""
    shape_of(contents, "conv1.weight", "resnet50", 4)
    module = ResNet50Tower()
    # files of old versions do not count the batches of a normalisation
    report = fit_module(module, contents, _RESNET_RULES, "resnet50", own=(r".+\.num_batches_tracked",))
    fields = ("image_tower", "pixel_scale", "pixel_mean", "pixel_std")
    decided = CXR_CLIP_RESNET50.model_dump(mode="json", include=set(fields))
    return _part("resnet50", module, decided, asdict(report), {})


def import_gpt2(path: Path, tokenizer: bytes | None = None) -> list[ImportedStage]:
    """Read a GPT-2 of any size.

    Args:
        path: ``model.safetensors`` or ``pytorch_model.bin``.
        tokenizer: Bytes of its ``tokenizer.json``; without it no phrase can be spelt, and no training started.

    Returns:
        One part ``gpt2``.

    Raises:
        ModelError: The file is no such network, a key is missing, unknown or of another shape, or the vocabulary is
            another one.
    """
    with open_weights_file(path) as contents:
        return [read_gpt2(contents, tokenizer)]


def read_gpt2(contents: TorchContents, tokenizer: bytes | None = None) -> ImportedStage:
    """Read what a file held into a GPT-2; see ``import_gpt2``."""
    prefix = "transformer." if "transformer.wte.weight" in contents else ""
    vocab_size, width = shape_of(contents, f"{prefix}wte.weight", "gpt2")
    sizes = {
        "num_layers": num_blocks(contents, f"{prefix}h"),
        "num_heads": num_heads(width),
        "hidden_size": width,
        "vocab_size": vocab_size,
        "max_length": shape_of(contents, f"{prefix}wpe.weight", "gpt2")[0],
    }
    try:
        GeneratorArchitecture.model_validate(sizes)
    except ValidationError as error:
        raise ModelError(f"the sizes of the tensors fit no such network; {PUBLISHED_FILE}", "gpt2") from error
    module = GPT2Model(
        GPT2Config(
            vocab_size=vocab_size,
            n_positions=sizes["max_length"],
            n_embd=width,
            n_layer=sizes["num_layers"],
            n_head=sizes["num_heads"],
        )
    )
    report = fit_module(module, contents, _GPT2_RULES, "gpt2")
    files = {} if tokenizer is None else {"tokenizer.json": tokenizer}
    found = PhraseTokenizer(tokenizer) if tokenizer is not None else None
    return _part("gpt2", module, sizes, asdict(report), files, _checked(found, vocab_size))


def import_bert(path: Path, tokenizer: bytes | None = None) -> list[ImportedStage]:
    """Read a BERT of any size, such as Bio_ClinicalBERT, without its pooler and its heads.

    Args:
        path: ``model.safetensors`` or ``pytorch_model.bin``.
        tokenizer: Bytes of its ``tokenizer.json``; without it no text can be read, and no training started.

    Returns:
        One part ``bert``.

    Raises:
        ModelError: The file is no such network, a key is missing, unknown or of another shape, or the vocabulary is
            another one.
    """
    with open_weights_file(path) as contents:
        return [read_bert(contents, tokenizer)]


def read_bert(contents: TorchContents, tokenizer: bytes | None = None) -> ImportedStage:
    """Read what a file held into a BERT; see ``import_bert``."""
    prefix = "bert." if "bert.embeddings.word_embeddings.weight" in contents else ""
    vocab_size, width = shape_of(contents, f"{prefix}embeddings.word_embeddings.weight", "bert")
    num_positions = shape_of(contents, f"{prefix}embeddings.position_embeddings.weight", "bert")[0]
    sizes = {
        "text_tower": "bert",
        "text_layers": num_blocks(contents, f"{prefix}encoder.layer"),
        "text_heads": num_heads(width),
        "text_hidden_size": width,
        "text_vocab_size": vocab_size,
        "text_positions": num_positions,
        "text_types": shape_of(contents, f"{prefix}embeddings.token_type_embeddings.weight", "bert")[0],
    }
    module = BertTower(resized(ClipArchitecture(), "bert", **sizes, max_text_length=min(512, num_positions)))
    report = fit_module(module, contents, BERT_RULES, "bert")
    files = {} if tokenizer is None else {"tokenizer.json": tokenizer}
    found = PublishedTokenizer(tokenizer, "bert") if tokenizer is not None else None
    return _part("bert", module, sizes, asdict(report), files, _checked(found, vocab_size))


def _checked(tokenizer: PhraseTokenizer | PublishedTokenizer | None, vocab_size: int) -> dict[str, Any]:
    """Return what the config says of a vocabulary; empty where none was given."""
    if tokenizer is None:
        return {"tokenizer_sha256": ""}
    check_vocabulary(tokenizer.vocab_size, vocab_size, "network")
    return {"tokenizer_sha256": tokenizer.sha256}


def _part(
    name: str,
    module: nn.Module,
    architecture: Mapping[str, Any],
    report: Mapping[str, Any],
    files: Mapping[str, bytes],
    vocabulary: Mapping[str, Any] | None = None,
) -> ImportedStage:
    about = {"architecture": dict(architecture), "imported_from": name, "licence": LICENCES[name]}
    return ImportedStage(name, module, {**about, **(vocabulary or {})}, report, files)
