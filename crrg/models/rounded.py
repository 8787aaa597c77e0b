"""Weights rounded to 8 bits for faster decoding on a CPU, and to bfloat16 on a GPU: opt-in, not exact.

Each output's weights share one scale and each row of the input has its own, so that what is said of a row does not
depend on the rows beside it. Knows linear layers only; who may use them is decided in ``crrg.inference.decoding``.

Source: Dettmers et al., LLM.int8(), 2022 (row-wise and column-wise scales; without its outlier columns).
"""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from crrg.models.decoder import PseudoSelfAttentionDecoder
from crrg.models.low_rank import merge_updates

LARGEST = 127
LARGEST_PAIR = 63
"""Two products of an unsigned byte and a weight up to this one still fit into 16 bits."""
ZERO = 128
"""Inputs are stored as 1..255 around this zero: the CPU multiplies unsigned by signed bytes."""


class RoundedLinear(nn.Module):
    """A linear layer whose weights and inputs are rounded to 8 bits, for inference on a CPU."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Round the weight ``[out, in]``."""
        super().__init__()
        weight = weight.detach().float().contiguous()
        scales = weight.abs().amax(dim=1).clamp_min(1e-12) / largest_weight()
        rounded = (weight / scales[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._scales = scales
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._bias = None if bias is None else bias.detach().float()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``[..., out]`` of inputs ``[..., in]``, both float32."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        scales = rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / LARGEST
        rounded = (rows / scales).round_().add_(ZERO).to(torch.uint8)
        product = _product(rounded, self._packed, self._scales, self._zeros)
        found = product * scales if self._bias is None else torch.addcmul(self._bias, product, scales)
        return found.view(*inputs.shape[:-1], -1)


class WideScores(nn.Module):
    """Scores words by a bfloat16 table, on a GPU: factors are rounded, and the scores themselves are float32.

    In bfloat16 scores around 10 lie 1/16 apart, so that likely words would tie.
    """

    def __init__(self, table: Tensor) -> None:
        """Take the word table ``[V, D]``, which is not copied."""
        super().__init__()
        self._table = table

    def forward(self, hidden: Tensor) -> Tensor:
        """Return scores ``[..., V]`` in float32 of ``[..., D]`` in bfloat16."""
        rows = hidden.flatten(0, -2)
        scores = torch.mm(rows, self._table.t(), out_dtype=torch.float32)
        return scores.view(*hidden.shape[:-1], -1)


@functools.lru_cache(maxsize=1)
def largest_weight() -> int:
    """Return the largest rounded weight that this CPU multiplies rightly.

    A CPU without instructions for products of bytes (VNNI) adds two products in 16 bits and cuts the sum off where it
    does not fit. Which kind this one is, is tried out, since what is used depends on more than its flags.
    """
    weights = torch.full((32, 64), LARGEST, dtype=torch.int8)
    ones, zeros = torch.ones(32), torch.zeros(32, dtype=torch.int32)
    packed = torch.ops.onednn.qlinear_prepack(weights, None)
    found = _product(torch.full((4, 64), 255, dtype=torch.uint8), packed, ones, zeros)
    return LARGEST if bool((found == (255 - ZERO) * LARGEST * 64).all()) else LARGEST_PAIR


def _product(rounded: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_pointwise(
        rounded, 1.0, ZERO, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


def fast_decoder(decoder: PseudoSelfAttentionDecoder) -> PseudoSelfAttentionDecoder:
    """Return a copy for inference whose products are rounded: 8 bits on a CPU, bfloat16 on a GPU.

    The word table stays as it is where it spells words; where it scores them it is rounded as well, and the scores are
    float32. Updates that are still learnt are added first.
    """
    if decoder.transformer.wte.weight.device.type != "cpu":
        fast = copy.deepcopy(decoder).eval()
        merge_updates(fast)
        fast = fast.to(torch.bfloat16)
        fast.word_scores = WideScores(fast.transformer.wte.weight.detach())
        return fast
    table = decoder.transformer.wte.weight
    # the large tensors are not copied on the way: what is replaced is shared with the original until then
    fast = copy.deepcopy(decoder, {id(parameter): parameter for parameter in decoder.parameters()}).eval()
    merge_updates(fast)
    for block in fast.transformer.h:
        for part, names in ((block.attn, ("c_attn", "c_proj", "uk", "uv")), (block.mlp, ("c_fc", "c_proj"))):
            for name in names:
                layer = getattr(part, name)
                weight = layer.weight.t() if isinstance(layer, Conv1D) else layer.weight
                setattr(part, name, RoundedLinear(weight, layer.bias))
    fast.word_scores = RoundedLinear(table, None)
    return fast
