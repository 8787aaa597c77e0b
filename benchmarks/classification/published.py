"""Published CLIP checkpoints as they are laid out and as they run, written down straight: functions over a state dict.

What the importers and our towers are compared with, on random weights of any size. Nothing here uses our towers, or a
library's Swin, BERT or ViT.

Source: CXR-CLIP (You et al., MICCAI 2023) and CheXzero (Tiu et al., 2022), by their published descriptions; ResNet (He
et al., 2016), Swin (Liu et al., 2021), BERT (Devlin et al., 2019), CLIP (Radford et al., 2021). No line of their code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

State = Mapping[str, Tensor]
RESNET_BLOCKS = (3, 4, 6, 3)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class SwinSizes:
    """Sizes of a Swin tower; small by default, `SWIN_TINY` the published ones."""

    width: int = 12
    depths: tuple[int, ...] = (2, 2, 2)
    heads: tuple[int, ...] = (1, 2, 3)
    window: int = 3
    patch: int = 4


@dataclass(frozen=True)
class TextSizes:
    """Sizes of a text tower; small by default."""

    width: int = 128
    num_layers: int = 2
    vocab_size: int = 300
    num_positions: int = 40


@dataclass(frozen=True)
class VitSizes:
    """Sizes of CLIP's image tower; small by default."""

    width: int = 128
    num_layers: int = 2
    patch: int = 16
    side: int = 3


SWIN_TINY = SwinSizes(96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 4)
BIO_CLINICAL_BERT = TextSizes(768, 12, 28996, 512)
CLIP_TEXT = TextSizes(512, 12, 49408, 77)
VIT_B32 = VitSizes(768, 12, 32, 7)


def resnet_features(state: State, images: Tensor) -> Tensor:
    """Return the average pooled features ``[B, 2048]`` of ResNet-50."""
    hidden = functional.conv2d(images, state["conv1.weight"], stride=2, padding=3)
    hidden = functional.max_pool2d(torch.relu(_batch_norm(hidden, state, "bn1")), 3, stride=2, padding=1)
    for stage, num_blocks in enumerate(RESNET_BLOCKS, start=1):
        for block in range(num_blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            change = functional.conv2d(hidden, state[f"{name}.conv1.weight"])
            change = torch.relu(_batch_norm(change, state, f"{name}.bn1"))
            change = functional.conv2d(change, state[f"{name}.conv2.weight"], stride=stride, padding=1)
            change = torch.relu(_batch_norm(change, state, f"{name}.bn2"))
            change = _batch_norm(functional.conv2d(change, state[f"{name}.conv3.weight"]), state, f"{name}.bn3")
            if f"{name}.downsample.0.weight" in state:
                hidden = functional.conv2d(hidden, state[f"{name}.downsample.0.weight"], stride=stride)
                hidden = _batch_norm(hidden, state, f"{name}.downsample.1")
            hidden = torch.relu(hidden + change)
    return hidden.mean(dim=(2, 3))


def swin_places(state: State, images: Tensor, sizes: SwinSizes) -> Tensor:
    """Return the last states ``[B, h * w, C]`` of a Swin tower."""
    hidden = functional.conv2d(
        images,
        state["embeddings.patch_embeddings.projection.weight"],
        state["embeddings.patch_embeddings.projection.bias"],
        stride=sizes.patch,
    )
    hidden = _layer_norm(hidden.permute(0, 2, 3, 1), state, "embeddings.norm")
    for stage, depth in enumerate(sizes.depths):
        for block in range(depth):
            name = f"encoder.layers.{stage}.blocks.{block}"
            hidden = _swin_block(state, name, hidden, sizes.heads[stage], sizes.window, is_shifted=block % 2 == 1)
        if stage < len(sizes.depths) - 1:
            name = f"encoder.layers.{stage}.downsample"
            corners = [hidden[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
            hidden = _layer_norm(torch.cat(corners, dim=-1), state, f"{name}.norm")
            hidden = hidden @ state[f"{name}.reduction.weight"].T
    return _layer_norm(hidden.flatten(1, 2), state, "layernorm")


def _swin_block(state: State, name: str, hidden: Tensor, heads: int, window: int, *, is_shifted: bool) -> Tensor:
    batch, side, _, width = hidden.shape
    window = min(window, side)
    shift = window // 2 if is_shifted and side > window else 0
    normed = _layer_norm(hidden, state, f"{name}.layernorm_before")
    normed = torch.roll(normed, (-shift, -shift), (1, 2))
    zone = torch.zeros(side, dtype=torch.long)
    if shift:
        zone[side - window : side - shift], zone[side - shift :] = 1, 2
    zones = (3 * zone[:, None] + zone[None, :])[None, ..., None].float()
    bias = state[f"{name}.attention.self.relative_position_bias_table"][_window_index(window)].permute(2, 0, 1)
    mixed = torch.zeros_like(normed)
    for top in range(0, side, window):
        for left in range(0, side, window):
            rows, columns = slice(top, top + window), slice(left, left + window)
            tokens = normed[:, rows, columns].reshape(batch, window * window, width)
            places = zones[0, rows, columns].reshape(-1)
            blocked = torch.where(places[:, None] == places[None, :], 0.0, -100.0)
            query, key, value = (
                _linear(tokens, state, f"{name}.attention.self.{part}") for part in ("query", "key", "value")
            )
            seen = _attend(query, key, value, heads, bias + blocked)
            mixed[:, rows, columns] = seen.reshape(batch, window, window, width)
    mixed = _linear(torch.roll(mixed, (shift, shift), (1, 2)), state, f"{name}.attention.output.dense")
    hidden = hidden + mixed
    normed = _layer_norm(hidden, state, f"{name}.layernorm_after")
    change = functional.gelu(_linear(normed, state, f"{name}.intermediate.dense"))
    return hidden + _linear(change, state, f"{name}.output.dense")


def _window_index(window: int) -> Tensor:
    """Return which row of the bias table belongs to each pair of places of a window, ``[w * w, w * w]``."""
    places = [(row, column) for row in range(window) for column in range(window)]
    span = 2 * window - 1
    return torch.tensor([[(a - c + window - 1) * span + b - d + window - 1 for c, d in places] for a, b in places])


def bert_states(state: State, token_ids: Tensor, mask: Tensor, num_layers: int) -> Tensor:
    """Return the last states ``[B, L, D]`` of BERT."""
    length = token_ids.shape[1]
    hidden = (
        state["embeddings.word_embeddings.weight"][token_ids]
        + state["embeddings.position_embeddings.weight"][:length]
        + state["embeddings.token_type_embeddings.weight"][0]
    )
    hidden = _layer_norm(hidden, state, "embeddings.LayerNorm", 1e-12)
    heads = hidden.shape[-1] // 64
    blocked = torch.where(mask[:, None, None, :] == 1, 0.0, -1e9)
    for layer in range(num_layers):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            _linear(hidden, state, f"{name}.attention.self.{part}") for part in ("query", "key", "value")
        )
        mixed = _linear(_attend(query, key, value, heads, blocked), state, f"{name}.attention.output.dense")
        hidden = _layer_norm(hidden + mixed, state, f"{name}.attention.output.LayerNorm", 1e-12)
        change = functional.gelu(_linear(hidden, state, f"{name}.intermediate.dense"))
        change = _linear(change, state, f"{name}.output.dense")
        hidden = _layer_norm(hidden + change, state, f"{name}.output.LayerNorm", 1e-12)
    return hidden


def bert_eos(state: State, token_ids: Tensor, mask: Tensor, num_layers: int) -> Tensor:
    """Return BERT's state at the last token that is no padding, ``[B, D]``."""
    states = bert_states(state, token_ids, mask, num_layers)
    return states[torch.arange(len(states)), mask.sum(dim=1) - 1]


def clip_image_features(state: State, images: Tensor) -> Tensor:
    """Return CLIP's projected features of images ``[B, D]``, not normalised."""
    visual = below(state, "visual")
    patch = visual["conv1.weight"].shape[-1]
    places = functional.conv2d(images, visual["conv1.weight"], stride=patch).flatten(2).transpose(1, 2)
    first = visual["class_embedding"].expand(len(images), 1, -1)
    hidden = torch.cat([first, places], dim=1) + visual["positional_embedding"]
    hidden = _clip_blocks(visual, _layer_norm(hidden, visual, "ln_pre"), None)
    return _layer_norm(hidden[:, 0], visual, "ln_post") @ visual["proj"]


def clip_text_features(state: State, token_ids: Tensor, ends: Tensor) -> Tensor:
    """Return CLIP's projected features of texts ``[B, D]``, not normalised; ``ends`` are the places of end marks."""
    length = token_ids.shape[1]
    hidden = state["token_embedding.weight"][token_ids] + state["positional_embedding"][:length]
    future = torch.full((length, length), float("-inf")).triu(1)
    hidden = _layer_norm(_clip_blocks(state, hidden, future), state, "ln_final")
    return hidden[torch.arange(len(hidden)), ends] @ state["text_projection"]


def _clip_blocks(state: State, hidden: Tensor, blocked: Tensor | None) -> Tensor:
    num_layers = len({name.split(".")[2] for name in state if name.startswith("transformer.resblocks.")})
    for layer in range(num_layers):
        name = f"transformer.resblocks.{layer}"
        normed = _layer_norm(hidden, state, f"{name}.ln_1")
        parts = normed @ state[f"{name}.attn.in_proj_weight"].T + state[f"{name}.attn.in_proj_bias"]
        query, key, value = parts.chunk(3, dim=-1)
        mixed = _attend(query, key, value, hidden.shape[-1] // 64, blocked)
        hidden = hidden + _linear(mixed, state, f"{name}.attn.out_proj")
        change = _linear(_layer_norm(hidden, state, f"{name}.ln_2"), state, f"{name}.mlp.c_fc")
        hidden = hidden + _linear(change * torch.sigmoid(1.702 * change), state, f"{name}.mlp.c_proj")
    return hidden


def below(state: State, prefix: str) -> dict[str, Tensor]:
    """Return what stands under ``prefix.``, with that prefix taken off."""
    return {name[len(prefix) + 1 :]: value for name, value in state.items() if name.startswith(f"{prefix}.")}


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return films ``[B, 1, S, S]`` as three channels of their own mean and deviation."""
    return (images.expand(-1, 3, -1, -1) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int, added: Tensor | None) -> Tensor:
    """Mix values ``[B, L, D]`` by softmax attention with ``added`` to the scores."""
    parts = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value)]
    scores = parts[0] @ parts[1].transpose(-1, -2) / parts[0].shape[-1] ** 0.5
    scores = scores if added is None else scores + added
    return (scores.softmax(dim=-1) @ parts[2]).transpose(1, 2).flatten(2)


def _linear(values: Tensor, state: State, name: str) -> Tensor:
    return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _layer_norm(values: Tensor, state: State, name: str, epsilon: float = 1e-5) -> Tensor:
    middle = values.mean(dim=-1, keepdim=True)
    spread = values.var(dim=-1, keepdim=True, unbiased=False)
    return (values - middle) / torch.sqrt(spread + epsilon) * state[f"{name}.weight"] + state[f"{name}.bias"]


def _batch_norm(values: Tensor, state: State, name: str) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (values - mean) / torch.sqrt(var + 1e-5) * weight + bias
