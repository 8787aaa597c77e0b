"""Runs of tokens in pairs of texts, beside counting them text by text."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from crrg.evaluation.ngrams import MAX_ORDER, SideCounts, count_pairs
from crrg.evaluation.text import bleu_counts, caption_counts, cider_d_per_report

WORDS = ["no", "effusion", "or", "pneumothorax", ".", "The", "heart", "is", "large"]


def texts(seed: int, num: int = 40) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [[WORDS[place] for place in rng.integers(0, len(WORDS), rng.integers(0, 12))] for _ in range(num)]


def by_hand(tokens: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[start : start + order + 1]) for start in range(len(tokens) - order))


def test_runs_are_counted_text_by_text() -> None:
    drafts, references = texts(1), texts(2)
    assert [] in drafts
    pairs = count_pairs(drafts, references)
    assert pairs.candidate_lengths.tolist() == [len(text) for text in drafts]
    for order in range(MAX_ORDER):
        found = pairs.orders[order]
        runs = [tuple(pairs.tokens[place : place + order + 1]) for place in found.places.tolist()]
        assert len(set(runs)) == len(runs)

        def counters(side: SideCounts, runs: list[tuple[str, ...]] = runs) -> list[Counter[tuple[str, ...]]]:
            counts: list[Counter[tuple[str, ...]]] = [Counter() for _ in drafts]
            for text, run, times in zip(side.texts.tolist(), side.runs.tolist(), side.counts.tolist(), strict=True):
                counts[text][runs[run]] = times
            return counts

        ours, theirs = counters(found.candidates), counters(found.references)
        assert ours == [by_hand(text, order) for text in drafts]
        assert theirs == [by_hand(text, order) for text in references]
        both = [(found.candidates.texts[row], runs[found.candidates.runs[row]]) for row in found.shared[0]]
        assert both == [(found.references.texts[row], runs[found.references.runs[row]]) for row in found.shared[1]]
        assert len(both) == sum(len(one.keys() & other.keys()) for one, other in zip(ours, theirs, strict=True))
        documents = Counter(run for each in theirs for run in each)
        assert pairs.frequencies(order, None).tolist() == [documents[run] for run in runs]
        assert pairs.frequencies(order, {runs[0]: 7}).tolist() == [7.0] + [0.0] * (len(runs) - 1)


def test_figures_of_both_kinds_come_from_one_count() -> None:
    bleu, cider = caption_counts(texts(1), texts(2))
    np.testing.assert_array_equal(bleu, bleu_counts(texts(1), texts(2)))
    np.testing.assert_array_equal(cider, cider_d_per_report(texts(1), texts(2)))
    assert cider_d_per_report([["a", "b"]] * 2, [["a", "b"], ["c"]])[0] == pytest.approx(5), "two of four lengths"


def test_no_text_and_no_word_are_no_error() -> None:
    for pair in (([], []), ([[]], [[]]), ([[]], [["a"]]), ([["a"]], [[]])):
        assert bleu_counts(*pair)[:, :4].tolist() == [[0.0] * 4] * len(pair[0])
        assert cider_d_per_report(*pair).tolist() == [0.0] * len(pair[0])
