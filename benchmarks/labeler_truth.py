"""How well the rule labeler reads drawn reports: its labels against what was drawn.

A drawn report states a mild finding as possible now and then, so an uncertain reading of a drawn finding counts as
found. A finding that was not drawn may be denied or unmentioned. Run: ``python -m benchmarks.labeler_truth [COHORT]``;
without a folder 400 studies are drawn.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from crrg.data.phantom.cohort import REPORTS_KEY, TRUTH_KEY, write_cohort
from crrg.domain.labels import LABELS, label_column
from crrg.evaluation.label_agreement import MICRO, Agreement
from crrg.evaluation.labeler import label_report

NUM_STUDIES, SEED, SIZE = 400, 11, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path, nargs="?", help="folder of a drawn cohort")
    cohort: Path | None = parser.parse_args().cohort
    if cohort is not None:
        measure(cohort)
        return
    with tempfile.TemporaryDirectory(prefix="crrg-cohort-") as drawn:
        write_cohort(drawn, NUM_STUDIES, SEED, size=SIZE)
        measure(Path(drawn))


def measure(cohort: Path) -> None:
    """Print how well the reports of a drawn cohort are read."""
    with (cohort / REPORTS_KEY).open(encoding="utf-8", newline="") as file:
        texts = {row["study_id"]: f"{row['findings']} {row['impression']}" for row in csv.DictReader(file)}
    truth = pq.read_table(cohort / TRUTH_KEY).to_pylist()
    read = [label_report(texts[row["study_id"]]) for row in truth]
    print(f"{len(truth)} drawn reports")
    print(f"{'label':28s} drawn  read uncertain precision recall   F1")
    total, total_open = Agreement(), 0
    for label in LABELS:
        drawn = [row[label_column(label)] == 1 for row in truth]
        found = [values[label] in (1, -1) for values in read]
        num_open = sum(values[label] == -1 for values in read)
        counts = Agreement(sum(drawn), sum(found), sum(d and f for d, f in zip(drawn, found, strict=True)))
        total, total_open = total + counts, total_open + num_open
        _print_row(label, counts, num_open)
    _print_row(MICRO, total, total_open)


def _print_row(label: str, c: Agreement, num_open: int) -> None:
    print(f"{label:28s} {c.truth:5d} {c.read:5d} {num_open:9d}     {c.precision:.3f}  {c.recall:.3f} {c.f1:.3f}")


if __name__ == "__main__":
    main()
