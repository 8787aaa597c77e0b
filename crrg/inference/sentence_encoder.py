"""The encoder that a bundle brings to find sentences that say the same, as the published procedure does.

Only drafts that are assembled as published ask it: to such an encoder "right" and "left" are nearly one word. A film's
sentences are encoded together and with no other film's, so that a draft does not depend on its neighbours.

Source: BERTScore (Zhang et al., ICLR 2020), without weights by rarity and without rescaling, as in RGRG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crrg.data.published_tokenizers import PublishedTokenizer
from crrg.domain.bundle import ENCODER_VOCABULARY, ENCODER_WEIGHTS, SENTENCE_ENCODER, BundleFiles
from crrg.errors import ModelError
from crrg.inference.dedup import EncodedSentence, Similarity, token_similarity
from crrg.models.sentence_encoder import SentenceEncoder, load_sentence_encoder


@dataclass(frozen=True)
class TokenEncoder:
    """Sentences to the vectors of their tokens.

    Attributes:
        model: The network, in ``eval`` mode.
        tokenizer: Its vocabulary.
    """

    model: SentenceEncoder
    tokenizer: PublishedTokenizer

    @torch.inference_mode()
    def __call__(self, sentences: Sequence[str]) -> list[EncodedSentence]:
        """Encode each sentence once; marks of begin and end have a vector and no weight.

        Args:
            sentences: Any text; one longer than the network reads loses its end.
        """
        if not sentences:
            return []
        longest = self.model.architecture.num_positions
        rows = [self.tokenizer.text_ids(sentence.strip(), longest) for sentence in sentences]
        lengths = [len(row) for row in rows]
        ids = torch.tensor([token for row in rows for token in row], device=next(self.model.parameters()).device)
        states = self.model(ids, lengths).float().cpu()
        marks = (self.tokenizer.start_id, self.tokenizer.end_id)
        return [
            EncodedSentence(found.numpy(), 1.0 - np.isin(row, marks))
            for found, row in zip(states.split(lengths), rows, strict=True)
        ]


def bundled_similarity(bundle: BundleFiles, device: torch.device) -> Similarity | None:
    """Return the similarity of sentences by the bundle's own encoder, or ``None`` where it has none.

    Raises:
        ModelError: A part is missing or does not fit.
    """
    config = bundle.spec.get(SENTENCE_ENCODER)
    if not config:
        return None
    tokenizer = PublishedTokenizer(bundle.files[ENCODER_VOCABULARY], "bert")
    if tokenizer.sha256 != config.get("tokenizer_sha256"):
        raise ModelError("its vocabulary is another one; restore the bundle or make it again", "sentence encoder")
    model = load_sentence_encoder(config, bundle.files[ENCODER_WEIGHTS], device)
    return token_similarity(TokenEncoder(model, tokenizer))
