"""Zero-shot inference of ours beside CheXzero's procedure, on the same weights: one film at a time, and twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import resnet50

from benchmarks.classification.published_step import CHILDREN
from crrg.config.models import ClipArchitecture
from crrg.data.tokenizer import PhraseTokenizer
from crrg.domain.labels import LABELS
from crrg.inference.prompts import prompt_pair
from crrg.inference.zero_shot import encode_texts, tokenize, zero_shot_probabilities
from crrg.models.clip import ClipModel
from crrg.training.clip import train_clip_tokenizer

Tower = Literal["vit", "resnet50"]
NUM_FILMS = 16
PROMPT_LENGTH = 77
NUM_MANY = 1000
TEXT = {
    "text_tower": "clip", "text_layers": 12, "text_heads": 8, "text_hidden_size": 512, "text_vocab_size": 49408,
    "max_text_length": PROMPT_LENGTH, "projection_size": 512, "label_head": "none", "num_labels": 0,
    "projects_evidence": False, "input_size": 224,
}  # fmt: skip
TOWERS: dict[Tower, dict[str, Any]] = {
    "vit": {
        "image_tower": "vit", "image_width": 768, "image_layers": (12,), "image_heads": (12,), "patch_size": 32,
        "projection_bias": False,
    },
    "resnet50": {"image_tower": "resnet50"},
}  # fmt: skip


@cache
def build(tower: Tower) -> tuple[ClipModel, nn.Module]:
    """Return our model, and the image encoder as it is published, with the same weights."""
    torch.manual_seed(0)
    model = ClipModel(ClipArchitecture(**TEXT, **TOWERS[tower])).eval()
    if tower == "vit":
        return model, model.image_tower
    plain = resnet50(weights=None)
    plain.fc = nn.Identity()
    body = model.image_tower.body.state_dict()
    named = {f"{CHILDREN[int(key.split('.')[0])]}.{key.split('.', 1)[1]}": value for key, value in body.items()}
    plain.load_state_dict(named, strict=True, assign=True)
    return model, plain.eval()


def films(num: int, size: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (num, 1, size, size), dtype=np.uint8))


@torch.inference_mode()
def embed_published(tower: Tower, images: Tensor) -> Tensor:
    """Return features of films in one call of the published encoder."""
    model, encoder = build(tower)
    pixels = ((images.float() / 255 - model.pixel_mean) / model.pixel_std).expand(-1, 3, -1, -1).contiguous()
    seen = encoder(pixels)
    raw = seen.raw if tower == "vit" else seen
    return functional.normalize(model.image_projection(raw), dim=1)


def measure_films(tower: Tower, way: str) -> dict[str, float]:
    """Return seconds per film of one way of embedding 16 films.

    Args:
        tower: Image tower.
        way: ``published``: one film at a time, and all of it twice, for affirming and for denying prompts;
            ``published, batch 16``: the same encoder, 16 films at once and once; ``ours``: ``read_films``.
    """
    model, _ = build(tower)
    images = films(NUM_FILMS, 224)

    @torch.inference_mode()
    def ours() -> Tensor:
        return model.read_films(images).image_features

    def one_by_one() -> Tensor:
        for _ in range(2):
            found = torch.cat([embed_published(tower, image[None]) for image in images])
        return found

    ways: dict[str, Callable[[], Tensor]] = {
        "published": one_by_one,
        "published, batch 16": lambda: embed_published(tower, images),
        "ours": ours,
    }
    if way == "ours":
        ours()
    seconds, features = timed(ways[way])
    wanted = embed_published(tower, images[:2])
    return {"cpu_s_per_film": seconds / NUM_FILMS, "difference": float((features[:2] - wanted).abs().max())}


def prompt_texts() -> list[str]:
    return [text for label in LABELS for text in (prompt_pair(label).negative[0], prompt_pair(label).positive[0])]


@cache
def tokenizer() -> PhraseTokenizer:
    return train_clip_tokenizer(prompt_texts(), 1000)


def measure_prompts(way: str) -> dict[str, float]:
    """Return seconds for 28 prompts: each alone and padded to 77 tokens (``published``), or by length (``ours``)."""
    model, _ = build("vit")
    texts = prompt_texts()

    @torch.inference_mode()
    def padded() -> Tensor:
        found = []
        for text in texts:
            ids, mask = tokenize(tokenizer(), [text], PROMPT_LENGTH)
            missing = PROMPT_LENGTH - ids.shape[1]
            found.append(model.encode_text(functional.pad(ids, (0, missing)), functional.pad(mask, (0, missing))))
        return torch.cat(found)

    seconds, features = timed(padded if way == "published" else lambda: encode_texts(model, tokenizer(), texts))
    return {"cpu_s": seconds, "difference": float((features - padded()).abs().max())}


def measure_product() -> dict[str, float]:
    """Return what a thousand films against a thousand prompts cost, at the size ``tiny``."""
    torch.manual_seed(0)
    model = ClipModel(ClipArchitecture()).eval()
    words = train_clip_tokenizer(prompt_texts(), 1000)
    texts = [f"{text[:-1]} {number}." for number in range(NUM_MANY // 25) for text in prompt_texts()[:25]]
    with counted(model) as counts:
        images = films(NUM_MANY, model.architecture.input_size)
        with torch.inference_mode():
            film_s, image_features = timed(
                lambda: torch.cat([model.read_films(part).image_features for part in images.split(50)])
            )
        text_s, text_features = timed(lambda: encode_texts(model, words, texts))
        in_encoders = dict(counts)
        pairs = text_features.reshape(NUM_MANY // 2, 2, -1)
        with MatrixProducts() as products:
            product_s, table = timed(lambda: zero_shot_probabilities(image_features, pairs, 20.0))
    return {
        "films": float(in_encoders["films"]),
        "texts": float(in_encoders["texts"]),
        "encoded_for_the_product": float(sum(counts.values()) - sum(in_encoders.values())),
        "matrix_products": float(products.count),
        "answers": float(table.numel()),
        "film_cpu_s": film_s,
        "text_cpu_s": text_s,
        "product_cpu_s": product_s,
    }


class MatrixProducts(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.addmm, torch.ops.aten.matmul):
            self.count += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted(model: ClipModel) -> Any:
    """Count the films and texts that go through the towers; filling rows of the last tile of texts count."""
    counts = {"films": 0, "texts": 0}

    def count(kind: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            counts[kind] += len(inputs[0])

        return hook

    hooks = [
        model.image_tower.register_forward_pre_hook(count("films")),
        model.text_tower.register_forward_pre_hook(count("texts")),
    ]
    yield counts
    for hook in hooks:
        hook.remove()


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Return CPU seconds and the result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result
