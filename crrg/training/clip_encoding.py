"""Encodes a batch of films and texts, all at once or with gradient caching.

With gradient caching a large batch goes through the towers in parts. Of each part only the features are kept, the loss
is taken over the features of all, and on the way back each part is encoded a second time, with the random state it had,
and given the gradients of its features. The gradients are those of the whole batch, while the memory is that of one
part. Two things differ: batch normalisation sees one part at a time (its running statistics are moved once per part,
as without caching), and dropout falls differently than over the batch in one piece.

Source: GradCache (Gao et al., RepL4NLP 2021); the second encoding is ``torch.utils.checkpoint``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from crrg.models.clip import ClipModel, FilmReading
from crrg.training.running_statistics import statistics_held

Encoded = TypeVar("Encoded")


def encode_films(model: ClipModel, images: Tensor, cached_rows: int = 0) -> FilmReading:
    """Embed and label films.

    Args:
        model: In training or not.
        images: ``[B, 1, S, S]``, grey values 0..255.
        cached_rows: Films per part; 0, or as many as there are, encodes them at once and caches nothing.
    """
    if not cached_rows or len(images) <= cached_rows:
        return model.read_films(images)
    parts: list[FilmReading] = [
        _encode_later_again(model, model.read_films, part) for part in images.split(cached_rows)
    ]
    return FilmReading(
        image_features=torch.cat([part.image_features for part in parts]),
        label_logits=torch.cat([part.label_logits for part in parts]),
        cell_logits=torch.cat([part.cell_logits for part in parts]),
    )


def encode_texts(model: ClipModel, token_ids: Tensor, attention_mask: Tensor, cached_rows: int = 0) -> Tensor:
    """Return features ``[B, D]`` of texts; parts hold texts of similar length, cut to the longest of the part.

    Args:
        model: In training or not.
        token_ids: ``[B, L]``.
        attention_mask: ``[B, L]``: 1 token, 0 padding.
        cached_rows: Texts per part; 0, or as many as there are, encodes them at once and caches nothing.
    """
    if not cached_rows or len(token_ids) <= cached_rows:
        return model.encode_text(token_ids, attention_mask)
    lengths = attention_mask.sum(dim=1)
    order = torch.argsort(lengths)
    parts: list[Tensor] = []
    for rows in order.split(cached_rows):
        longest = max(1, int(lengths[rows[-1]]))
        parts.append(
            _encode_later_again(model, model.encode_text, token_ids[rows, :longest], attention_mask[rows, :longest])
        )
    return torch.cat(parts)[torch.argsort(order)]


def _encode_later_again(model: nn.Module, encode: Callable[..., Encoded], *inputs: Tensor) -> Encoded:
    """Encode a part and keep nothing but its features; the way back encodes it again."""
    encoded: Encoded = checkpoint(
        encode, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), statistics_held(model))
    )
    return encoded
