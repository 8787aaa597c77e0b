"""All pairs at once say what BERTScore says pair by pair, and lead to the same decisions."""

from __future__ import annotations

import numpy as np
import pytest

from crrg.inference.dedup import EncodedSentence, deduplicate, pairwise_f1, token_similarity
from tests.support.spelling import spelling_vectors


def slow_f1(first: EncodedSentence, second: EncodedSentence) -> float:
    """One pair, token by token."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    def mean_of_best(one: EncodedSentence, other: EncodedSentence) -> float:
        best = [max(cosine(vector, candidate) for candidate in other.vectors) for vector in one.vectors]
        return sum(b * w for b, w in zip(best, one.weights, strict=True)) / sum(one.weights)

    precision, recall = mean_of_best(first, second), mean_of_best(second, first)
    return 2 * precision * recall / (precision + recall)


def random_sentences(count: int) -> list[EncodedSentence]:
    rng = np.random.default_rng(0)
    sentences = []
    for _ in range(count):
        length = int(rng.integers(3, 12))
        weights = np.ones(length)
        weights[[0, -1]] = 0
        sentences.append(EncodedSentence(rng.normal(size=(length, 16)) + 1, weights))
    return sentences


def test_all_pairs_are_those_of_the_pair_by_pair_formula() -> None:
    encoded = random_sentences(7)
    found = pairwise_f1(encoded)
    for i, first in enumerate(encoded):
        for j, second in enumerate(encoded):
            assert found[i, j] == pytest.approx(slow_f1(first, second), abs=1e-9)


def test_by_hand() -> None:
    one = EncodedSentence(np.array([[2.0, 0.0]]), np.ones(1))
    two = EncodedSentence(np.array([[1.0, 0.0], [0.0, 1.0]]), np.ones(2))
    # the one token is matched fully; of the two tokens one is
    assert pairwise_f1([one, two])[0, 1] == pytest.approx(2 * 1 * 0.5 / 1.5)


def test_spelling_is_enough_for_near_repeats() -> None:
    similarity = token_similarity(spelling_vectors)
    sentences = ["The lungs are clear.", "Lungs are clear", "There is a right pleural effusion.", "..."]
    scores = similarity(sentences)
    assert scores.diagonal()[:3] == pytest.approx(1)
    assert scores[0, 1] > 0.85 > 0.5 > scores[0, 2]
    assert scores[0, 3] == 0
    assert similarity([]).shape == (0, 0)
    assert deduplicate(sentences[:3], similarity=similarity, threshold=0.85) == [sentences[0], sentences[2]]
