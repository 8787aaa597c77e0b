"""Drops sentences that say the same thing twice, in the order in which the regions speak.

Exact repeats go first, then pairs whose similarity is above a threshold: the longer one stays. The rule is not
transitive and depends on the order; it is kept as published, so that with the published similarity (BERTScore, see
``token_similarity``) and its encoder the decisions are the published ones. The default similarity needs no weights and
never equates sentences that differ in side, place, degree, number, kind or negation (``decisive_words``).

Source: RGRG (Tanida et al., CVPR 2023), report post-processing; Zhang et al., BERTScore, ICLR 2020.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crrg.inference.decisive_words import WORD, decisive_words
from crrg.models.products import affine

SIMILARITY_THRESHOLD = 0.9
Similarity = Callable[[Sequence[str]], NDArray[np.floating]]
"""Sentences to their pairwise similarity ``[n, n]``, 0..1."""


@dataclass(frozen=True)
class EncodedSentence:
    """What an encoder says of one sentence.

    Attributes:
        vectors: One per token ``[L, D]``, of any length but zero.
        weights: How much each token counts ``[L]``; the tokens that only begin and end a sentence have 0.
    """

    vectors: NDArray[np.floating]
    weights: NDArray[np.floating]


Encoder = Callable[[Sequence[str]], Sequence[EncodedSentence]]
"""Sentences to their token vectors."""


def deduplicate(
    sentences: Sequence[str],
    *,
    similarity: Similarity | None = None,
    threshold: float = SIMILARITY_THRESHOLD,
) -> list[str]:
    """Return the sentences without exact and near repeats, in their order.

    Of two sentences whose similarity is above the threshold the longer stays; of two equally long ones the later.

    Args:
        sentences: In region order.
        similarity: Pairwise measure; shared words where not given.
        threshold: Similarity above which two sentences count as one.

    Returns:
        A subset of ``sentences``; empty for none.
    """
    kept = kept_sentences(sentences, similarity=similarity, threshold=threshold)
    return [sentence for sentence, stays_as in kept.items() if sentence == stays_as]


def kept_sentences(
    sentences: Sequence[str],
    *,
    similarity: Similarity | None = None,
    threshold: float = SIMILARITY_THRESHOLD,
) -> dict[str, str]:
    """Return for each different sentence, in their order, the one of ``deduplicate`` that tells it: itself if it stays.

    The arguments are those of ``deduplicate``.
    """
    unique = list(dict.fromkeys(sentences))
    scores = (similarity or lexical_similarity)(unique)
    dropped: dict[int, int] = {}
    for first in range(len(unique)):
        for second in range(first + 1, len(unique)):
            if first in dropped:
                break
            if second in dropped or not scores[first, second] > threshold:
                continue
            if len(unique[first]) > len(unique[second]):
                dropped[second] = first
            else:
                dropped[first] = second
    kept = {}
    for index, sentence in enumerate(unique):
        while index in dropped:
            index = dropped[index]
        kept[sentence] = unique[index]
    return kept


def lexical_similarity(sentences: Sequence[str]) -> NDArray[np.float64]:
    """Return the F1 of shared words for each pair, 0 where a decisive word or number is in one sentence only.

    Args:
        sentences: Any text; case and punctuation do not matter.

    Returns:
        Symmetric ``[n, n]`` in 0..1 with 1 on the diagonal.
    """
    bags = [Counter(WORD.findall(sentence.lower())) for sentence in sentences]
    decisive = [decisive_words(bag) for bag in bags]
    scores = np.eye(len(bags))
    for first, bag in enumerate(bags):
        for second in range(first):
            if decisive[first] == decisive[second]:
                num_shared = (bag & bags[second]).total()
                num_words = bag.total() + bags[second].total()
                scores[first, second] = scores[second, first] = 2 * num_shared / num_words if num_words else 1.0
    return scores


def token_similarity(encoder: Encoder) -> Similarity:
    """Return BERTScore's F1 over an encoder's vectors as a similarity; each sentence is encoded once.

    Args:
        encoder: Any; gets all sentences of a report at once, and none where there is none.
    """

    def similarity(sentences: Sequence[str]) -> NDArray[np.float64]:
        return pairwise_f1(encoder(sentences))

    return similarity


def pairwise_f1(encoded: Sequence[EncodedSentence]) -> NDArray[np.float64]:
    """Return BERTScore's F1 of all pairs, from one product of all tokens with all tokens.

    Each token is matched with the most similar token of the other sentence; precision and recall are the weighted means
    of those cosines.

    Args:
        encoded: Of ``n`` sentences.

    Returns:
        Symmetric ``[n, n]``.
    """
    if not encoded:
        return np.zeros((0, 0))
    lengths = [len(item.vectors) for item in encoded]
    vectors = np.concatenate([item.vectors for item in encoded])
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    # not by numpy, whose second thread waits in a loop after each product, 70 ms of a core that others could use
    with torch.inference_mode():
        tokens = torch.from_numpy(vectors)
        cosines = affine(tokens, tokens).numpy()
    # [tokens, n]: of each token the best match in each sentence
    best = np.maximum.reduceat(cosines, starts, axis=1)
    weights = np.concatenate([item.weights for item in encoded]).astype(np.float64)
    totals = np.add.reduceat(weights, starts)
    share = np.add.reduceat(best * weights[:, None], starts, axis=0) / np.maximum(totals, 1e-12)[:, None]
    total = share + share.T
    return np.asarray(np.divide(2 * share * share.T, total, out=np.zeros_like(total), where=total > 0))
