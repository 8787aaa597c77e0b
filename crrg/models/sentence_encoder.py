"""Tokens of sentences to the vectors by which sentences are compared.

Knows tensors only; texts and what their likeness means are ``crrg.inference.sentence_encoder``'s concern.

Letters: ``T`` tokens of all sentences, ``D`` width, ``H`` heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from crrg.config.report_models import SentenceEncoderArchitecture
from crrg.models.bert import build_bert
from crrg.models.products import with_fast_layers
from crrg.models.weights import load_network

WITHIN_SENTENCES = "within_sentences"
"""Name of the attention below, as configurations of the library give it."""


class SentenceEncoder(nn.Module):
    """The first blocks of BERT; DistilBERT is the same network without segment types, which are then zero.

    Sentences lie one behind the other, without padding: all but attention goes over all tokens at once, so that weights
    are read once, and attention stays within a sentence.

    Attributes:
        architecture: Sizes.

    Source: Devlin et al., NAACL 2019; Sanh et al., DistilBERT, 2019.
    """

    def __init__(self, architecture: SentenceEncoderArchitecture) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.architecture = architecture
        self.bert = build_bert(
            architecture,
            intermediate_size=architecture.feed_forward_size,
            layer_norm_eps=architecture.norm_epsilon,
            attn_implementation=WITHIN_SENTENCES,
        )

    def forward(self, token_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return one vector per token ``[T, D]``.

        Args:
            token_ids: Of all sentences, one behind the other ``[T]``.
            lengths: Tokens of each sentence; none is 0.
        """
        positions = torch.cat([torch.arange(length, device=token_ids.device) for length in lengths])
        states: Tensor = self.bert(
            input_ids=token_ids[None], position_ids=positions[None], lengths=list(lengths)
        ).last_hidden_state
        return states[0]


def _within_sentences(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: None,
    *,
    scaling: float,
    lengths: list[int],
    **_others: object,
) -> tuple[Tensor, None]:
    """Return what tokens ``[1, H, T, D / H]`` take from those of their own sentence, as ``[1, T, H, D / H]``."""
    sentences = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    mixed = [scaled_dot_product_attention(own, keys, values, scale=scaling) for own, keys, values in sentences]
    return torch.cat(mixed, dim=2).transpose(1, 2), None


AttentionInterface.register(WITHIN_SENTENCES, _within_sentences)


def load_sentence_encoder(config: Mapping[str, Any], tensors: bytes, device: torch.device) -> SentenceEncoder:
    """Build the network from its config and safetensors, ready for inference.

    Raises:
        ModelError: The architecture is not valid, or the tensors do not fit it.
    """
    return with_fast_layers(
        load_network(SentenceEncoder, SentenceEncoderArchitecture, config, tensors, "sentence encoder", device)
    )
