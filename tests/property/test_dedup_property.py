"""De-duplication never invents, reorders or repeats, and follows the published rule written out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crrg.inference.dedup import deduplicate, lexical_similarity

SENTENCES = st.lists(st.text("abc ", min_size=1, max_size=6), max_size=9)


@given(SENTENCES, st.integers(0, 2**32 - 1))
def test_decisions_are_those_of_the_written_out_rule(sentences: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)

    def similarity(given_sentences: Sequence[str]) -> np.ndarray:
        half = np.triu(rng.random((len(given_sentences),) * 2), 1)
        scores.append(half + half.T)
        return scores[0]

    scores: list[np.ndarray] = []
    got = deduplicate(sentences, similarity=similarity, threshold=0.7)
    unique = list(dict.fromkeys(sentences))
    removed: set[int] = set()
    for i in range(len(unique)):
        if i in removed:
            continue
        for j in range(i + 1, len(unique)):
            if j in removed:
                continue
            if scores[0][i, j] > 0.7:
                if len(unique[i]) > len(unique[j]):
                    removed.add(j)
                else:
                    removed.add(i)
                    break
    assert got == [sentence for i, sentence in enumerate(unique) if i not in removed]


@given(SENTENCES)
def test_the_default_keeps_order_and_a_second_pass_changes_nothing(sentences: list[str]) -> None:
    got = deduplicate(sentences)
    assert len(set(got)) == len(got)
    positions = [sentences.index(sentence) for sentence in got]
    assert positions == sorted(positions)
    assert deduplicate(got) == got
    assert bool(got) == bool(sentences)


@given(SENTENCES)
def test_similarity_is_symmetric_and_bounded(sentences: list[str]) -> None:
    scores = lexical_similarity(sentences)
    assert (scores == scores.T).all()
    assert ((scores >= 0) & (scores <= 1)).all()
