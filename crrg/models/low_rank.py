"""Low-rank updates: what a frozen language model learns without weights of its own that change.

Beside each projection of its attention and feed-forward layers a product of two thin matrices learns. Afterwards it is
added to the projection's weights, so that what is stored and used is a decoder like any other.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022; here of all projections, with a scale
of 1 and without dropout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from crrg.models.decoder import PseudoSelfAttentionDecoder


class UpdatedProjection(Conv1D):
    """GPT-2's projection with an update beside it, which is zero at first; weight and bias keep their names."""

    def __init__(self, layer: Conv1D, rank: int) -> None:
        """Take over a projection from ``nx`` to ``nf`` values."""
        nn.Module.__init__(self)
        self.nx, self.nf = layer.nx, layer.nf
        self.weight, self.bias = layer.weight, layer.bias
        self.down = nn.Parameter((torch.randn(self.nx, rank) / self.nx**0.5).to(self.weight))
        self.up = nn.Parameter(self.weight.new_zeros(rank, self.nf))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return ``[..., nf]`` of ``[..., nx]``."""
        projected: Tensor = super().forward(hidden)
        return projected + hidden @ self.down @ self.up

    @torch.no_grad()
    def merged(self) -> Conv1D:
        """Return a projection that has the update in its weight; this one stays as it is."""
        with torch.device("meta"):  # its own weights are neither drawn nor held
            plain = Conv1D(self.nf, self.nx)
        plain.weight = nn.Parameter(self.weight + self.down @ self.up, requires_grad=self.weight.requires_grad)
        plain.bias = self.bias
        return plain


@contextmanager
def low_rank_updates(decoder: PseudoSelfAttentionDecoder, rank: int) -> Iterator[None]:
    """Let a frozen decoder learn updates within the block; at its end they are part of the weights.

    Args:
        decoder: Where its weights learn themselves, nothing is added.
        rank: Of the updates; 0 = none.
    """
    if rank:
        add_updates(decoder, rank)
    yield
    merge_updates(decoder)


def add_updates(decoder: PseudoSelfAttentionDecoder, rank: int) -> None:
    """Put an update of zero beside every frozen projection."""
    for part, name in _projections(decoder):
        layer = getattr(part, name)
        if not layer.weight.requires_grad:
            setattr(part, name, UpdatedProjection(layer, rank))


def merge_updates(decoder: PseudoSelfAttentionDecoder) -> None:
    """Make projections of those with an update; the tensors of the old ones are left alone."""
    for part, name in _projections(decoder):
        layer = getattr(part, name)
        if isinstance(layer, UpdatedProjection):
            setattr(part, name, layer.merged())


def _projections(decoder: PseudoSelfAttentionDecoder) -> list[tuple[nn.Module, str]]:
    parts = [(block.attn, block.mlp) for block in decoder.transformer.h]
    names = ("c_attn", "c_proj"), ("c_fc", "c_proj")
    return [(part, name) for block in parts for part, own in zip(block, names, strict=True) for name in own]
