"""The rule labeler against sentences in the language of radiologists, written and labeled by hand for this project.

How they were labeled: 1 present, 0 denied, -1 left open, empty unmentioned; each sentence is a report of its own, so
that "No Finding" is 1 where nothing but devices is present or open.

- Likely, probable, consistent with, favored: present. May, possible, suspected, cannot exclude, versus, "X or Y", less
  likely: open. Unlikely, rather than, argues against, resolved, removed: denied. Improved, resolving, nearly resolved,
  "no increase in": present.
- A normal heart or mediastinum denies its enlargement, a normal cardiomediastinal silhouette both; clear lungs deny an
  opacity, sharp costophrenic angles and clear pleural spaces an effusion; a blunted angle leaves an effusion open.
- Scars of the lung are opacities; a nodular opacity is a lesion only; congestion is edema; a hydropneumothorax is two
  labels.
- A device whose tip is not seen is present. What the patient once had is unmentioned.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from crrg.domain.labels import FINDINGS, LABELS, NO_FINDING
from crrg.evaluation.label_agreement import MICRO, score_labels
from crrg.evaluation.labeler import label_report

FLOORS = {"mention": 0.98, "present": 0.96, "denied": 0.95, "uncertain": 0.95}


@pytest.fixture(scope="module")
def gold() -> list[tuple[str, dict[str, int | None]]]:
    path = Path(__file__).with_name("labeler_gold.tsv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [(row["sentence"], {label: int(row[label]) if row[label] else None for label in LABELS}) for row in rows]


def test_the_gold_set_is_large_and_covers_every_label_and_value(gold):
    sentences = [sentence for sentence, _ in gold]
    assert len(set(sentences)) == len(sentences) >= 320
    for label in FINDINGS:
        values = [given[label] for _, given in gold]
        assert values.count(1) >= 5, label
        assert values.count(0) >= 4, label
        assert values.count(-1) >= 2, label
    for sentence, given in gold:
        is_found = any(given[label] in (1, -1) for label in FINDINGS if label != "Support Devices")
        assert given[NO_FINDING] == int(not is_found), sentence


@pytest.mark.parametrize("aspect", sorted(FLOORS))
def test_the_labeler_reads_the_gold_sentences(gold, aspect):
    scores = score_labels([given for _, given in gold], [label_report(text) for text, _ in gold], FINDINGS)
    assert scores[MICRO, aspect].f1 >= FLOORS[aspect]


def test_no_label_is_read_badly(gold):
    scores = score_labels([given for _, given in gold], [label_report(text) for text, _ in gold])
    assert {label: scores[label, "mention"].f1 for label in LABELS if scores[label, "mention"].f1 < 0.95} == {}
