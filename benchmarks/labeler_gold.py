"""How well the rule labeler reads the gold sentences of ``tests/golden/labeler_gold.tsv``.

Each sentence is read as a report of its own; ``tests/golden/test_golden_labeler.py`` says how they were labeled. Run:
``python -m benchmarks.labeler_gold``; ``--part held-out`` takes every second sentence, ``--show`` lists those that are
read wrongly.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from crrg.domain.labels import FINDINGS, LABELS
from crrg.evaluation.label_agreement import ASPECTS, MICRO, score_labels
from crrg.evaluation.labeler import label_report

GOLD = Path(__file__).parent.parent / "tests" / "golden" / "labeler_gold.tsv"
PARTS = {"all": slice(None), "development": slice(0, None, 2), "held-out": slice(1, None, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=sorted(PARTS), default="all", help="which sentences to score")
    parser.add_argument("--show", action="store_true", help="list the sentences that are read wrongly")
    arguments = parser.parse_args()
    with GOLD.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[PARTS[arguments.part]]
    truth = [{label: int(row[label]) if row[label] else None for label in LABELS} for row in rows]
    read = [label_report(row["sentence"]) for row in rows]
    scores = score_labels(truth, read)
    scores |= {(MICRO, aspect): score_labels(truth, read, FINDINGS)[MICRO, aspect] for aspect in ASPECTS}
    right = sum(given == found for given, found in zip(truth, read, strict=True))
    print(f"{len(rows)} sentences ({arguments.part}), {right} read without a fault; micro is over the 13 findings")
    print(f"{'n, precision, recall, F1 of:':28s} {' | '.join(f'{aspect:21s}' for aspect in ASPECTS)}")
    for label in (*LABELS, MICRO):
        cells = (scores[label, aspect] for aspect in ASPECTS)
        figures = " | ".join(f"{c.truth:3d} {c.precision:.3f} {c.recall:.3f} {c.f1:.3f}" for c in cells)
        print(f"{label:28s} {figures}")
    if arguments.show:
        for row, given, found in zip(rows, truth, read, strict=True):
            faults = {label: (given[label], found[label]) for label in LABELS if given[label] != found[label]}
            if faults:
                print(f"{row['sentence']}  (given, read): {faults}")


if __name__ == "__main__":
    main()
