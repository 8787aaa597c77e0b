"""Sentence encoders of DistilBERT's size on the same random weights; the words of a drawn sentence are token numbers.

DistilBERT is BERT without segment types, which are zero here. The published side pads sentences that are encoded
together and multiplies as torch does; ours is the network that a bundle brings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from crrg.config.report_models import SentenceEncoderArchitecture
from crrg.inference.dedup import EncodedSentence
from crrg.models.products import with_fast_layers
from crrg.models.sentence_encoder import SentenceEncoder

SIZES = SentenceEncoderArchitecture(
    num_layers=5,  # BERTScore takes the fifth of the six layers
    num_heads=12,
    hidden_size=768,
    vocab_size=30522,
    num_positions=512,
    num_types=1,
    feed_forward_size=3072,
)
BEGIN, END, FIRST_WORD = 101, 102, 999


class OurEncoder:
    """Turns sentences such as ``w12 w7`` into vectors of their tokens, as ``crrg.inference.dedup`` asks for."""

    def __init__(self, seed: int = 0) -> None:
        """Build with random weights."""
        torch.manual_seed(seed)
        self.network = with_fast_layers(SentenceEncoder(SIZES)).eval()
        torch.nn.init.zeros_(self.network.bert.embeddings.token_type_embeddings.weight)

    @torch.inference_mode()
    def __call__(self, sentences: Sequence[str]) -> list[EncodedSentence]:
        """Encode each sentence once."""
        if not sentences:
            return []
        rows = [_ids(sentence) for sentence in sentences]
        lengths = [len(row) for row in rows]
        hidden = self.network(torch.tensor([token for row in rows for token in row]), lengths)
        encoded = []
        for vectors in hidden.split(lengths):
            weights = np.ones(len(vectors))
            weights[[0, -1]] = 0
            encoded.append(EncodedSentence(vectors.numpy(), weights))
        return encoded


class PublishedEncoder:
    """The same weights in the same memory, for sentences that are padded to one length."""

    def __init__(self, ours: OurEncoder) -> None:
        """Build with the weights of ours."""
        sizes = BertConfig(num_hidden_layers=SIZES.num_layers, vocab_size=SIZES.vocab_size, type_vocab_size=1)
        self.network = BertModel(sizes, add_pooling_layer=False).eval()
        self.network.load_state_dict(ours.network.bert.state_dict(), assign=True)

    @torch.no_grad()
    def encode(self, sentences: Sequence[str]) -> tuple[Tensor, list[int]]:
        """Return vectors ``[n, L, D]``, padded, and the sentences' lengths with begin and end."""
        rows = [_ids(sentence) for sentence in sentences]
        lengths = [len(row) for row in rows]
        longest = max(lengths)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
        return self.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state, lengths


def _ids(sentence: str) -> list[int]:
    return [BEGIN, *(FIRST_WORD + int(word[1:]) % (SIZES.vocab_size - FIRST_WORD) for word in sentence.split()), END]
