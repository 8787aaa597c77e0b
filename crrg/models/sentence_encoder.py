"""Tokens of a sentence to the vectors by which sentences are compared.

Knows tensors only; texts and what their likeness means are ``crrg.inference.sentence_encoder``'s concern.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from crrg.config.models import SentenceEncoderArchitecture
from crrg.models.products import with_fast_layers
from crrg.models.weights import load_network


class SentenceEncoder(nn.Module):
    """The first blocks of BERT; DistilBERT is the same network without segment types, which are then zero.

    Attributes:
        architecture: Sizes.

    Source: Devlin et al., NAACL 2019; Sanh et al., DistilBERT, 2019.
    """

    def __init__(self, architecture: SentenceEncoderArchitecture) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.architecture = architecture
        self.bert = BertModel(
            BertConfig(
                vocab_size=architecture.vocab_size,
                hidden_size=architecture.hidden_size,
                num_hidden_layers=architecture.num_layers,
                num_attention_heads=architecture.num_heads,
                intermediate_size=architecture.feed_forward_size,
                max_position_embeddings=architecture.num_positions,
                type_vocab_size=architecture.num_types,
                layer_norm_eps=architecture.norm_epsilon,
            ),
            add_pooling_layer=False,
        )

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return one vector per token ``[B, L, D]`` of token ids ``[B, L]``; the mask is 1 on tokens, 0 on padding."""
        states: Tensor = self.bert(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state
        return states


def load_sentence_encoder(config: Mapping[str, Any], tensors: bytes, device: torch.device) -> SentenceEncoder:
    """Build the network from its config and safetensors, ready for inference.

    Raises:
        ModelError: The architecture is not valid, or the tensors do not fit it.
    """
    return with_fast_layers(
        load_network(SentenceEncoder, SentenceEncoderArchitecture, config, tensors, "sentence encoder", device)
    )
