"""BLEU, ROUGE-L and CIDEr-D beside the COCO caption evaluation written out again, on odd texts of every kind."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crrg.evaluation.text import score_text, text_statistics

PIECES = [
    "No",
    "pleural",
    "effusion",
    "size.",
    "1.5",
    "...",
    ".",
    ",",
    "Heart,",
    "é",
    "肺",
    "a\u00a0b",
    "\t",
    "\n",
    " ",
    "  ",
]
SENTENCES = st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)
TEXTS = SENTENCES | st.lists(st.sampled_from(PIECES), max_size=4).map("".join)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5)


def prepared(text: str) -> str:
    return re.sub(" +", " ", text.replace(".", " ."))


def runs(text: str, order: int) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def caption_bleu(pairs: list[tuple[str, str]]) -> list[float]:
    product, values = 1.0, []
    length = sum(len(draft.split()) for draft, _ in pairs)
    wanted = sum(len(report.split()) for _, report in pairs)
    for order in range(1, 5):
        right = sum((runs(draft, order) & runs(report, order)).total() for draft, report in pairs)
        guessed = sum(max(0, len(draft.split()) - order + 1) for draft, _ in pairs)
        product *= (right + 1e-15) / (guessed + 1e-9)
        values.append(product ** (1 / order))
    ratio = (length + 1e-15) / (wanted + 1e-9)
    return [value * math.exp(1 - 1 / ratio) if ratio < 1 else value for value in values]


def caption_rouge(draft: str, report: str) -> float:
    first, second = draft.split(" "), report.split(" ")  # blanks alone part words there, and an empty text is a word
    table = np.zeros((len(first) + 1, len(second) + 1))
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1, j + 1] = table[i, j] + 1 if one == other else max(table[i, j + 1], table[i + 1, j])
    precision, recall = table[-1, -1] / len(first), table[-1, -1] / len(second)
    return float(2.44 * precision * recall / (recall + 1.44 * precision)) if precision else 0.0


def caption_cider(pairs: list[tuple[str, str]]) -> float:
    known = Counter(gram for _, report in pairs for order in range(1, 5) for gram in runs(report, order))

    def vector(text: str, order: int) -> dict[tuple[str, ...], float]:
        idf = {gram: math.log(len(pairs)) - math.log(max(1, known[gram])) for gram in runs(text, order)}
        return {gram: number * idf[gram] for gram, number in runs(text, order).items()}

    values = []
    for draft, report in pairs:
        distance = sum(runs(draft, 2).values()) - sum(runs(report, 2).values())
        for order in range(1, 5):
            one, other = vector(draft, order), vector(report, order)
            norms = math.sqrt(sum(v**2 for v in one.values())) * math.sqrt(sum(v**2 for v in other.values()))
            shared = sum(min(value, other.get(gram, 0.0)) * other.get(gram, 0.0) for gram, value in one.items())
            values.append(10 * (shared / norms if norms else 0.0) * math.exp(-(distance**2) / 72))
    return sum(values) / len(values)


@given(PAIRS)
def test_the_published_figures_to_nine_digits(pairs: list[tuple[str, str]]) -> None:
    drafts, reports = [draft for draft, _ in pairs], [report for _, report in pairs]
    found = score_text(drafts, reports, "rgrg")
    told = [(prepared(draft), prepared(report)) for draft, report in pairs]
    assert [found[f"rgrg/bleu_{n}"] for n in range(1, 5)] == pytest.approx(caption_bleu(told), abs=1e-9, rel=0)
    assert found["rgrg/cider_d"] == pytest.approx(caption_cider(told), abs=1e-9, rel=0)
    each = text_statistics(drafts, reports, "rgrg")["rouge_l"].counts[:, 0]
    assert each == pytest.approx([caption_rouge(*pair) for pair in told], abs=1e-9, rel=0)
