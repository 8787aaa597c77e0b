"""What importers of CLIP-type checkpoints share: sizes read from tensors, the text tower's vocabulary, the config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from crrg.config.models import ClipArchitecture
from crrg.data.framing import Framing
from crrg.data.published_tokenizers import PublishedTokenizer, TokenizerKind
from crrg.errors import ModelError
from crrg.importers.imported import PUBLISHED_FILE
from crrg.importers.key_map import Rule
from crrg.importers.torch_file import TorchContents
from crrg.importers.vocabulary import check_vocabulary

HEAD_SIZE = 64
"""Width of an attention head of BERT, ViT and CLIP's text tower at every published size."""


def num_heads(width: int) -> int:
    """Return the attention heads of a transformer of this width."""
    return max(1, width // HEAD_SIZE)


def num_blocks(contents: TorchContents, prefix: str) -> int:
    """Return how many numbered blocks stand under ``prefix.``."""
    cut = len(prefix) + 1
    return len({name[cut:].split(".", 1)[0] for name in contents.names() if name.startswith(f"{prefix}.")})


def resnet_rules(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Return the renaming of a ResNet under torchvision's names, without its classifier.

    Args:
        theirs: Pattern before their names, dot included.
        ours: What stands before ``body``, dot included.
    """
    names = {"conv1": 0, "bn1": 1, **{f"layer{stage}": stage + 3 for stage in (1, 2, 3, 4)}}
    return tuple(Rule(rf"{theirs}{name}\.(.+)", rf"{ours}body.{place}.\1") for name, place in names.items())


def shape_of(contents: TorchContents, name: str, source: str, num_dims: int = 2) -> tuple[int, ...]:
    """Return the shape of a tensor that the layout must have.

    Raises:
        ModelError: It is missing, or has not so many dimensions.
    """
    if name not in contents:
        raise ModelError(f"{name} is missing; the file is not the published layout", source)
    shape = tuple(contents[name].shape)
    if len(shape) != num_dims:
        raise ModelError(
            f"{name} {list(shape)} has not {num_dims} dimensions; the file is not the published layout", source
        )
    return shape


def resized(architecture: ClipArchitecture, source: str, **changes: object) -> ClipArchitecture:
    """Return a published architecture with the sizes of a file.

    Raises:
        ModelError: No network can have these sizes.
    """
    try:
        return ClipArchitecture.model_validate({**architecture.model_dump(), **changes})
    except ValidationError as error:
        problems = "; ".join(str(found["msg"]) for found in error.errors())
        raise ModelError(
            f"the sizes of the tensors fit no such network: {problems}; {PUBLISHED_FILE}", source
        ) from error


def clip_config(
    architecture: ClipArchitecture, source: str, framing: Framing, licence: str, kind: TokenizerKind
) -> dict[str, Any]:
    """Return the ``config.json`` of an imported CLIP without its vocabulary."""
    return {
        "architecture": architecture.model_dump(mode="json"),
        "imported_from": source,
        "licence": licence,
        "framing": framing,
        "tokenizer_kind": kind,
        "tokenizer_sha256": "",
    }


def with_tokenizer(
    config: Mapping[str, Any], tokenizer: bytes | None, architecture: ClipArchitecture, kind: TokenizerKind
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the config and the further files of a stage with its vocabulary, where one is given.

    Raises:
        ModelError: The vocabulary is not the text tower's.
    """
    if tokenizer is None:
        return dict(config), {}
    speller = PublishedTokenizer(tokenizer, kind)
    check_vocabulary(speller.vocab_size, architecture.text_vocab_size, "text tower")
    return {**config, "tokenizer_sha256": speller.sha256}, {"tokenizer.json": tokenizer}
