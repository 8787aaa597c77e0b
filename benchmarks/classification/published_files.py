"""Files in the layout of published CLIP checkpoints, with random weights of any size."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.classification.published import RESNET_BLOCKS, SwinSizes, TextSizes, VitSizes

Shapes = dict[str, tuple[int, ...]]


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Return random tensors of given shapes: norms near one, variances positive, the rest small."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        fan_in = max(1, noise[0].numel()) if noise.dim() > 1 else 1
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = 0.5 + noise.abs()
        elif noise.dim() == 1 and name.endswith("weight"):
            state[name] = 1 + 0.2 * noise
        elif noise.dim() == 1:
            state[name] = 0.1 * noise
        else:
            state[name] = noise / fan_in**0.5
    return state


def resnet_shapes() -> Shapes:
    """Return the names and shapes of ResNet-50 without its classifier."""
    shapes: Shapes = {"conv1.weight": (64, 3, 7, 7), **_batch_norm("bn1", 64)}
    width = 64
    for stage, num_blocks in enumerate(RESNET_BLOCKS, start=1):
        inner = 32 * 2**stage
        for block in range(num_blocks):
            name = f"layer{stage}.{block}"
            shapes |= {
                f"{name}.conv1.weight": (inner, width, 1, 1), **_batch_norm(f"{name}.bn1", inner),
                f"{name}.conv2.weight": (inner, inner, 3, 3), **_batch_norm(f"{name}.bn2", inner),
                f"{name}.conv3.weight": (4 * inner, inner, 1, 1), **_batch_norm(f"{name}.bn3", 4 * inner),
            }  # fmt: skip
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * inner, width, 1, 1)
                shapes |= _batch_norm(f"{name}.downsample.1", 4 * inner)
            width = 4 * inner
    return shapes


def swin_shapes(sizes: SwinSizes) -> Shapes:
    """Return the names and shapes of a Swin tower."""
    shapes: Shapes = {
        "embeddings.patch_embeddings.projection.weight": (sizes.width, 3, sizes.patch, sizes.patch),
        "embeddings.patch_embeddings.projection.bias": (sizes.width,),
        **_norm("embeddings.norm", sizes.width),
    }
    width = sizes.width
    for stage, depth in enumerate(sizes.depths):
        for block in range(depth):
            name = f"encoder.layers.{stage}.blocks.{block}"
            attention = f"{name}.attention"
            shapes |= {
                **_norm(f"{name}.layernorm_before", width),
                f"{attention}.self.relative_position_bias_table": ((2 * sizes.window - 1) ** 2, sizes.heads[stage]),
                f"{attention}.self.relative_position_index": (sizes.window**2, sizes.window**2),
                **_linears({f"{attention}.self.{part}": (width, width) for part in ("query", "key", "value")}),
                **_linears({f"{attention}.output.dense": (width, width)}),
                **_norm(f"{name}.layernorm_after", width),
                **_linears({f"{name}.intermediate.dense": (4 * width, width)}),
                **_linears({f"{name}.output.dense": (width, 4 * width)}),
            }
        if stage < len(sizes.depths) - 1:
            name = f"encoder.layers.{stage}.downsample"
            shapes |= {f"{name}.reduction.weight": (2 * width, 4 * width), **_norm(f"{name}.norm", 4 * width)}
            width *= 2
    return {**shapes, **_norm("layernorm", width)}


def bert_shapes(sizes: TextSizes) -> Shapes:
    """Return the names and shapes of BERT with its pooler, which nothing uses, and its positions as old versions."""
    width = sizes.width
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (sizes.vocab_size, width),
        "embeddings.position_embeddings.weight": (sizes.num_positions, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.position_ids": (1, sizes.num_positions),
        **_norm("embeddings.LayerNorm", width),
    }
    for layer in range(sizes.num_layers):
        name = f"encoder.layer.{layer}"
        shapes |= {
            **_linears({f"{name}.attention.self.{part}": (width, width) for part in ("query", "key", "value")}),
            **_linears({f"{name}.attention.output.dense": (width, width)}),
            **_norm(f"{name}.attention.output.LayerNorm", width),
            **_linears({f"{name}.intermediate.dense": (4 * width, width), f"{name}.output.dense": (width, 4 * width)}),
            **_norm(f"{name}.output.LayerNorm", width),
        }
    return {**shapes, **_linears({"pooler.dense": (width, width)})}


def clip_shapes(vit: VitSizes, text: TextSizes, projection_size: int) -> Shapes:
    """Return the names and shapes of OpenAI's CLIP with a ViT."""
    return {
        "logit_scale": (),
        "positional_embedding": (text.num_positions, text.width),
        "text_projection": (text.width, projection_size),
        "token_embedding.weight": (text.vocab_size, text.width),
        **_norm("ln_final", text.width),
        **_clip_blocks("transformer", text.width, text.num_layers),
        "visual.class_embedding": (vit.width,),
        "visual.positional_embedding": (vit.side**2 + 1, vit.width),
        "visual.proj": (vit.width, projection_size),
        "visual.conv1.weight": (vit.width, 3, vit.patch, vit.patch),
        **_norm("visual.ln_pre", vit.width),
        **_norm("visual.ln_post", vit.width),
        **_clip_blocks("visual.transformer", vit.width, vit.num_layers),
    }


def cxr_clip_state(
    text: TextSizes, projection_size: int, swin: SwinSizes | None = None, *, is_mlp: bool = False
) -> dict[str, Tensor]:
    """Return a random CXR-CLIP model: Swin of given sizes, or else ResNet-50."""
    if swin is None:
        image = {f"image_encoder.resnet.{name}": shape for name, shape in resnet_shapes().items()}
        width = 2048
    else:
        image = {f"image_encoder.image_encoder.{name}": shape for name, shape in swin_shapes(swin).items()}
        width = swin.width * 2 ** (len(swin.depths) - 1)
    shapes: Shapes = {"logit_scale": (), **image}
    shapes |= {f"text_encoder.text_encoder.{name}": shape for name, shape in bert_shapes(text).items()}
    for name, size in (("image_projection", width), ("text_projection", text.width)):
        shapes |= _linears({f"{name}.projection": (projection_size, size)})
        if is_mlp:
            shapes |= _linears({f"{name}.fc": (projection_size, projection_size)})
            shapes |= _norm(f"{name}.layer_norm", projection_size)
    return random_state(shapes)


def save_cxr_clip(state: dict[str, Tensor], path: Path, told: dict[str, object]) -> None:
    """Write a file as CXR-CLIP's training does."""
    torch.save(
        {"model": state, "optimizer": {"state": {}}, "scheduler": {}, "config": {"model": told}, "epoch": 1,
         "train_loss": 0.5},
        path,
    )  # fmt: skip


def _clip_blocks(name: str, width: int, num_layers: int) -> Shapes:
    shapes: Shapes = {}
    for layer in range(num_layers):
        block = f"{name}.resblocks.{layer}"
        shapes |= {
            **_norm(f"{block}.ln_1", width),
            f"{block}.attn.in_proj_weight": (3 * width, width),
            f"{block}.attn.in_proj_bias": (3 * width,),
            **_linears({f"{block}.attn.out_proj": (width, width)}),
            **_norm(f"{block}.ln_2", width),
            **_linears({f"{block}.mlp.c_fc": (4 * width, width), f"{block}.mlp.c_proj": (width, 4 * width)}),
        }
    return shapes


def _linears(weights: Shapes) -> Shapes:
    shapes = {f"{name}.weight": shape for name, shape in weights.items()}
    return {**shapes, **{f"{name}.bias": shape[:1] for name, shape in weights.items()}}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm(name: str, width: int) -> Shapes:
    tracked = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}
    return {**_norm(name, width), **tracked}
