from __future__ import annotations

import math
import time

import numpy as np
import pytest

from crrg.evaluation.text import (
    bleu,
    cider_d_per_report,
    rouge_l_per_report,
    score_text,
    sentence_bleu,
)


def cut(*texts: str) -> list[list[str]]:
    return [text.split() for text in texts]


def test_bleu_by_hand() -> None:
    # shared: 5 of 6 words, 3 of 5 pairs (the cat, on the, the mat), 1 of 4 triples (on the mat), 0 of 3
    values = bleu(cut("the cat sat on the mat"), cut("the cat is on the mat"))
    assert values[0] == pytest.approx(5 / 6)
    assert values[1] == pytest.approx(math.sqrt(5 / 6 * 3 / 5))
    assert values[2] == pytest.approx((5 / 6 * 3 / 5 * 1 / 4) ** (1 / 3))
    assert values[3] < 1e-3


def test_bleu_is_summed_over_the_corpus_and_short_drafts_are_penalised() -> None:
    # 2 of 2 and 1 of 4 words: 3/6; lengths 6 against 3 + 5 = 8
    values = bleu(cut("a b", "c x y z"), cut("a b q", "c d e f g"))
    assert values[0] == pytest.approx(3 / 6 * math.exp(1 - 8 / 6))


def test_bleu_counts_a_word_no_more_often_than_the_reference() -> None:
    assert bleu(cut("a a a a"), cut("a b c d"))[0] == pytest.approx(1 / 4)


def test_rouge_by_hand() -> None:
    values = rouge_l_per_report(cut("the cat sat on the mat", "a b", "x"), cut("the cat is on the mat", "a b c d", "y"))
    assert values == pytest.approx([5 / 6, 2.44 * 0.5 / (0.5 + 1.44), 0.0])


def test_cider_by_hand() -> None:
    # two words have orders 1 and 2 only: (1 + 1 + 0 + 0) / 4 * 10
    assert cider_d_per_report(cut("a b", "c d"), cut("a b", "c d")) == pytest.approx([5.0, 5.0])
    # order 1: a has df 1, x is unknown: ln2^2 / (sqrt(2) ln2 * sqrt(2) ln2) = 1/2; order 2: nothing shared
    assert cider_d_per_report(cut("a x", "c d"), cut("a b", "c d"))[0] == pytest.approx(10 * 0.5 / 4)
    # twice the word is clipped: min(2, 1) * 1 / (2 * 1) = 1/2, and one word more weighs exp(-1 / 72)
    assert cider_d_per_report(cut("a a", "c"), cut("a", "c"))[0] == pytest.approx(10 * 0.5 / 4 * math.exp(-1 / 72))


def test_sentence_bleu() -> None:
    values = sentence_bleu(cut("a b c d", "", "x"), cut("a b c d", "a", "y"))
    assert values == pytest.approx([1.0, 0.0, 0.0])


def test_score_text_names_its_protocol() -> None:
    figures = score_text(["Lungs clear."], ["lungs clear."], "rgrg")
    lowered = score_text(["Lungs clear."], ["lungs clear."], "r2gen")
    assert set(figures) == {f"rgrg/{n}" for n in "bleu_1 bleu_2 bleu_3 bleu_4 rouge_l cider_d meteor_offline".split()}  # noqa: SIM905
    assert figures["rgrg/bleu_1"] == pytest.approx(2 / 3)
    assert lowered["r2gen/bleu_1"] == pytest.approx(1.0)
    assert "rgrg/bleu_4_mean" in score_text(["a"], ["a"], with_per_report=True)


def test_nothing_scores_nothing() -> None:
    assert set(score_text([], []).values()) == {0.0}
    assert set(score_text([""], ["Lungs clear."]).values()) == {0.0}
    with pytest.raises(ValueError, match="one reference each"):
        score_text(["a"], [])


def test_five_hundred_reports_take_less_than_two_seconds() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(300)])
    reports = [" ".join(rng.choice(words, size=50)) + "." for _ in range(500)]
    started = time.process_time()
    score_text(reports, reports[::-1])
    assert time.process_time() - started < 2
