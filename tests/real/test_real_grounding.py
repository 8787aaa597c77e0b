"""The gold set of real sentences: floors for the lexicon, and that the set itself holds no text."""

from __future__ import annotations

import csv

import pytest

from benchmarks.grounding_drawn import GOLD, gold_examples, keyword_regions, score
from benchmarks.grounding_sample import COLUMNS
from crrg.config.base import Settings
from crrg.domain.regions import REGION_INDEX

pytestmark = pytest.mark.real


def test_lexicon_reads_real_sentences() -> None:
    folder = Settings().open_data
    reports = folder / "openi" / "reports.csv" if folder else None
    if reports is None or not reports.exists():
        pytest.skip("CRRG_OPEN_DATA points to no folder with the Open-i reports")
    examples = list(gold_examples(reports))
    assert len(examples) == 320
    whole = score((truth, found) for _, truth, found, _ in examples)
    held_out = score((truth, found) for _, truth, found, group in examples if group == "held out")
    keywords = score((truth, keyword_regions(sentence)) for sentence, truth, _, _ in examples)
    assert held_out["sentences"] == 60
    assert whole["f1"] >= 0.95
    assert held_out["f1"] >= 0.88
    assert whole["f1"] > keywords["f1"] + 0.1


def test_gold_holds_regions_and_digests_only() -> None:
    with GOLD.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    for row in rows:
        assert row["uid"].isdigit()
        assert int(row["sentence_sha256"], 16) >= 0
        assert set(filter(None, row["regions"].split(";"))) <= set(REGION_INDEX)
