"""Published CLIP layouts at full size on random weights: the importer's features beside a straight forward pass.

``python -m benchmarks.published_clip`` prints the largest difference and the seconds of both, for ResNet-50 with BERT,
Swin-T with BERT, and ViT-B/32 with CLIP's text tower. A few minutes on two cores, about 3 GB.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.classification.published import (
    BIO_CLINICAL_BERT,
    CLIP_TEXT,
    IMAGENET,
    SWIN_TINY,
    VIT_B32,
    State,
    below,
    bert_eos,
    clip_image_features,
    clip_text_features,
    normalised,
    resnet_features,
    swin_places,
)
from benchmarks.classification.published_files import clip_shapes, cxr_clip_state, random_state
from crrg.importers.chexzero import read_chexzero
from crrg.importers.cxr_clip import read_cxr_clip
from crrg.importers.torch_file import TorchContents
from crrg.models.clip import ClipModel

NUM_FILMS, NUM_TEXTS, LENGTH, NUM_REPEATS = 4, 8, 48, 3


@dataclass(frozen=True)
class Side:
    """One layout: our model and the straight forward passes of its films and texts."""

    name: str
    model: ClipModel
    films: Callable[[Tensor], Tensor]
    texts: Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Print one row per layout and tower."""
    print("| layout | tower | largest difference | straight, s | ours, s |\n| --- | --- | ---: | ---: | ---: |")
    with torch.inference_mode():
        for build in (resnet_side, swin_side, vit_side):
            compare(build())


def compare(side: Side) -> None:
    """Run both sides interleaved and print what differs."""
    generator = torch.Generator().manual_seed(0)
    films = torch.randint(0, 256, (NUM_FILMS, 1, 224, 224), generator=generator, dtype=torch.uint8)
    token_ids = torch.randint(0, side.model.architecture.text_vocab_size, (NUM_TEXTS, LENGTH), generator=generator)
    lengths = torch.randint(4, LENGTH + 1, (NUM_TEXTS,), generator=generator)
    mask = (torch.arange(LENGTH)[None] < lengths[:, None]).long()
    for tower, straight, ours in (
        ("films", lambda: side.films(films), lambda: side.model.encode_image(films)),
        ("texts", lambda: side.texts(token_ids, mask), lambda: side.model.encode_text(token_ids, mask)),
    ):
        difference, seconds = 0.0, ([], [])
        for _ in range(NUM_REPEATS):
            found = []
            for run, times in zip((straight, ours), seconds, strict=True):
                start = time.perf_counter()
                found.append(run())
                times.append(time.perf_counter() - start)
            difference = max(difference, float((length_one(found[0]) - found[1]).abs().max()))
        print(
            f"| {side.name} | {tower} | {difference:.1e} | {min(seconds[0]):.2f} | {min(seconds[1]):.2f} |", flush=True
        )


def resnet_side() -> Side:
    """Return CXR-CLIP with ResNet-50."""
    state = cxr_clip_state(BIO_CLINICAL_BERT, 512)
    image = below(state, "image_encoder.resnet")
    return cxr_clip_side("CXR-CLIP ResNet-50", state, lambda x: resnet_features(image, normalised(x / 255, *IMAGENET)))


def swin_side() -> Side:
    """Return CXR-CLIP with Swin-T."""
    state = cxr_clip_state(BIO_CLINICAL_BERT, 512, SWIN_TINY)
    image, half = below(state, "image_encoder.image_encoder"), (0.5, 0.5, 0.5)
    return cxr_clip_side(
        "CXR-CLIP Swin-T", state, lambda x: swin_places(image, normalised(x / 255, half, half), SWIN_TINY)[:, 0]
    )


def cxr_clip_side(name: str, state: State, raw_of: Callable[[Tensor], Tensor]) -> Side:
    """Return a CXR-CLIP side from its state and its image tower."""
    contents = TorchContents({f"model.{key}": value for key, value in state.items()}, {}, {})
    model = read_cxr_clip(contents).module
    assert isinstance(model, ClipModel)
    image, text = below(state, "image_projection.projection"), below(state, "text_projection.projection")
    bert = below(state, "text_encoder.text_encoder")
    return Side(
        name,
        model.eval(),
        lambda films: raw_of(films.float()) @ image["weight"].T + image["bias"],
        lambda ids, mask: bert_eos(bert, ids, mask, BIO_CLINICAL_BERT.num_layers) @ text["weight"].T + text["bias"],
    )


def vit_side() -> Side:
    """Return CheXzero with ViT-B/32."""
    state = random_state(clip_shapes(VIT_B32, CLIP_TEXT, 512))
    model = read_chexzero(TorchContents(state, {}, {})).module
    assert isinstance(model, ClipModel)
    return Side(
        "CheXzero ViT-B/32",
        model.eval(),
        lambda films: clip_image_features(state, ((films.float() - 101.48761) / 83.43944).expand(-1, 3, -1, -1)),
        lambda ids, mask: clip_text_features(state, ids, mask.sum(dim=1) - 1),
    )


def length_one(features: Tensor) -> Tensor:
    """Return features scaled to length 1."""
    return features / features.norm(dim=-1, keepdim=True)


if __name__ == "__main__":
    main()
