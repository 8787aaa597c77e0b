"""An encoder of sentences that needs no weights: words by their spelling."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crrg.inference.dedup import EncodedSentence

NUM_TRIGRAM_VALUES = 128
_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)?")


def spelling_vectors(sentences: Sequence[str]) -> list[EncodedSentence]:
    """Return vectors of words by their spelling (three letters at a time), without weights and always the same.

    Args:
        sentences: Any text; case and punctuation do not matter. A sentence without words gets one vector of weight 0.
    """
    known: dict[str, NDArray[np.float64]] = {}
    encoded = []
    for sentence in sentences:
        words = _WORD.findall(sentence.lower())
        for word in words:
            if word not in known:
                known[word] = _spelling_vector(word)
        vectors = [known[word] for word in words] or [np.ones(NUM_TRIGRAM_VALUES)]
        encoded.append(EncodedSentence(np.stack(vectors), np.full(len(vectors), float(bool(words)))))
    return encoded


def _spelling_vector(word: str) -> NDArray[np.float64]:
    vector = np.full(NUM_TRIGRAM_VALUES, 1e-3)
    padded = f"^{word}$"
    for start in range(len(padded) - 2):
        number = zlib.crc32(padded[start : start + 3].encode())
        vector[number % NUM_TRIGRAM_VALUES] += 1.0 if number & 1024 else -1.0
    return vector
