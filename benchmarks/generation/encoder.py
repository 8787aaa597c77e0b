"""A sentence encoder of DistilBERT's size with random weights; the words of a drawn sentence are token numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import DistilBertConfig, DistilBertModel

from crrg.inference.dedup import EncodedSentence
from crrg.models.products import with_fast_layers

NUM_LAYERS = 5
"""BERTScore takes the fifth of the six layers."""
BEGIN, END, FIRST_WORD = 101, 102, 999


class SentenceEncoder:
    """Turns sentences such as ``w12 w7`` into vectors of their tokens."""

    def __init__(self, seed: int = 0) -> None:
        """Build with random weights."""
        torch.manual_seed(seed)
        self.network = with_fast_layers(DistilBertModel(DistilBertConfig(n_layers=NUM_LAYERS))).eval()

    @torch.no_grad()
    def encode(self, sentences: Sequence[str]) -> tuple[Tensor, list[int]]:
        """Return vectors ``[n, L, D]``, padded, and the sentences' lengths with begin and end."""
        rows = [self._ids(sentence) for sentence in sentences]
        lengths = [len(row) for row in rows]
        longest = max(lengths)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
        return self.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state, lengths

    def __call__(self, sentences: Sequence[str]) -> list[EncodedSentence]:
        """Encode each sentence once, as ``crrg.inference.dedup`` asks for."""
        if not sentences:
            return []
        hidden, lengths = self.encode(sentences)
        encoded = []
        for row, length in zip(hidden, lengths, strict=True):
            weights = np.ones(length)
            weights[[0, -1]] = 0
            encoded.append(EncodedSentence(row[:length].numpy(), weights))
        return encoded

    def _ids(self, sentence: str) -> list[int]:
        size = self.network.config.vocab_size - FIRST_WORD
        return [BEGIN, *(FIRST_WORD + int(word[1:]) % size for word in sentence.split()), END]
