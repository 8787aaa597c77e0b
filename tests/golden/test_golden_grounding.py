"""Invented sentences with the regions they speak of: a guard of the rules, after which they were written.

How the rules do on sentences of others is measured by ``benchmarks/grounding_drawn.py``.
"""

from __future__ import annotations

import csv
from pathlib import Path

from crrg.data.reports.grounding import ground_sentence
from crrg.domain.regions import REGION_INDEX

GOLD = Path(__file__).parent / "grounding_gold.tsv"
FLOOR_F1 = 0.95


def gold() -> list[tuple[str, set[str]]]:
    with GOLD.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [(row["sentence"], set(filter(None, row["regions"].split(";")))) for row in rows]


def test_gold_is_120_different_sentences_about_known_regions() -> None:
    rows = gold()
    assert len(rows) == len({sentence for sentence, _ in rows}) == 120
    assert {region for _, regions in rows for region in regions} == set(REGION_INDEX)


def test_rules_read_the_invented_sentences() -> None:
    hits = found_total = truth_total = 0
    for sentence, truth in gold():
        found = set(ground_sentence(sentence))
        hits += len(found & truth)
        found_total += len(found)
        truth_total += len(truth)
    f1 = 2 * hits / (found_total + truth_total)
    assert f1 >= FLOOR_F1, f"micro-F1 {f1:.3f}"
