"""The text towers of CLIP: token ids to raw features.

Knows tensors only: no tokenizer, no projection to the shared space (``crrg.models.clip``), no weights from elsewhere;
published ones come through ``crrg.importers``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModel

from crrg.config.models import ClipArchitecture
from crrg.errors import ModelError
from crrg.models.products import with_fast_layers

NUM_LENGTH_GROUPS = 4
"""In training a batch is encoded in this many groups of similar length, so that short texts carry little padding."""


class TextTower(nn.Module, ABC):
    """A text is the state at its last token, the end mark.

    Attributes:
        feature_size: Width of the encoder.

    Source: "eos" pooling of CXR-CLIP (You et al., MICCAI 2023) and of CLIP (Radford et al., ICML 2021).
    """

    feature_size: int

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return raw features ``[B, D]`` of token ids ``[B, L]``; the mask is 1 on tokens and 0 on padding."""
        lengths = attention_mask.sum(dim=1).clamp(min=1)
        if not self.training:
            # in inference a text's numbers must not depend on its neighbours
            return self._encode(token_ids, attention_mask, lengths)
        groups = torch.argsort(lengths).chunk(NUM_LENGTH_GROUPS)
        features = []
        for rows in groups:
            longest = int(lengths[rows].max())
            features.append(self._encode(token_ids[rows, :longest], attention_mask[rows, :longest], lengths[rows]))
        return torch.cat(features)[torch.argsort(torch.cat(groups))]

    def _encode(self, token_ids: Tensor, attention_mask: Tensor, lengths: Tensor) -> Tensor:
        states = self.states(token_ids, attention_mask)
        return states[torch.arange(len(states), device=states.device), lengths - 1]

    @abstractmethod
    def states(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the state at each token ``[B, L, D]``."""


class BertTower(TextTower):
    """BERT-type encoder: every token sees the whole text."""

    def __init__(self, architecture: ClipArchitecture) -> None:
        """Build the encoder with random weights."""
        super().__init__()
        self.bert = BertModel(
            BertConfig(
                vocab_size=architecture.text_vocab_size,
                hidden_size=architecture.text_hidden_size,
                num_hidden_layers=architecture.text_layers,
                num_attention_heads=architecture.text_heads,
                intermediate_size=4 * architecture.text_hidden_size,
                max_position_embeddings=architecture.text_positions or architecture.max_text_length,
                hidden_dropout_prob=architecture.text_dropout,
                attention_probs_dropout_prob=architecture.text_dropout,
                type_vocab_size=architecture.text_types,
            ),
            add_pooling_layer=False,
        )
        self.feature_size = architecture.text_hidden_size

    def states(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the state at each token ``[B, L, D]``."""
        states: Tensor = self.bert(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state
        return states


class ClipTextTower(TextTower):
    """The text tower of OpenAI's CLIP: a token sees those before it, so that the end mark alone sees the whole text."""

    def __init__(self, architecture: ClipArchitecture) -> None:
        """Build the encoder with random weights."""
        super().__init__()
        self.transformer = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=architecture.text_vocab_size,
                hidden_size=architecture.text_hidden_size,
                intermediate_size=4 * architecture.text_hidden_size,
                num_hidden_layers=architecture.text_layers,
                num_attention_heads=architecture.text_heads,
                max_position_embeddings=architecture.text_positions or architecture.max_text_length,
                hidden_act="quick_gelu",
                attention_dropout=architecture.text_dropout,
                # any token in the vocabulary: where a text ends is told by its mask
                bos_token_id=0,
                eos_token_id=0,
            )
        )
        self.feature_size = architecture.text_hidden_size

    def states(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the state at each token ``[B, L, D]``."""
        states: Tensor = self.transformer(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state
        return states


def build_text_tower(architecture: ClipArchitecture) -> BertTower | ClipTextTower:
    """Return the text tower that the architecture names, with random weights.

    Raises:
        ModelError: It names none.
    """
    match architecture.text_tower:
        case "bert":
            return with_fast_layers(BertTower(architecture))
        case "clip":
            return with_fast_layers(ClipTextTower(architecture))
        case "none":
            raise ModelError("this architecture has no text tower; it reads films only", "clip")
