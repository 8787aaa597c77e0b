"""How well the rule labeler reads real reports: its labels against the hand-assigned codes of the Open-i collection.

The codes are per study, not per sentence, and follow other rules than CheXpert (a code may come from a lateral film or
stand for an old finding), so the figures bound the labeler from below. Run:
``python -m benchmarks.labeler_openi --reports PATH/reports.csv``
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

from crrg.config.base import Settings
from crrg.data.archives.mesh_codes import findings_of, read_codes
from crrg.domain.labels import FINDINGS
from crrg.evaluation.labeler import label_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=Path, help="reports.csv of Open-i; under CRRG_OPEN_DATA if not given")
    parser.add_argument("--definite", action="store_true", help="count uncertain mentions as absent")
    parser.add_argument("--show", default="", help="label whose disagreements are listed by study number")
    arguments = parser.parse_args()
    open_data = Settings().open_data
    reports = arguments.reports or (open_data / "openi" / "reports.csv" if open_data else None)
    if reports is None:
        print("skipped: give --reports or set CRRG_OPEN_DATA (docs/real-data.md)")
        return
    with reports.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["findings"] or row["impression"]]
    rows = [row for row in rows if row["mesh_major"] not in ("", "No Indexing")]
    started = time.process_time()
    read = [label_report(f"{row['findings']} {row['impression']}") for row in rows]
    seconds = time.process_time() - started
    wanted = [findings_of(read_codes(row["mesh_major"])) for row in rows]
    positive = (1,) if arguments.definite else (1, -1)
    print(f"{len(rows)} reports, {seconds:.2f} s")
    print(f"{'label':28s} coded  read  precision recall   F1")
    totals = [0, 0, 0]
    for label in FINDINGS:
        found = [values[label] in positive for values in read]
        coded = [label in labels for labels in wanted]
        hits = sum(f and c for f, c in zip(found, coded, strict=True))
        totals = [totals[0] + hits, totals[1] + sum(found), totals[2] + sum(coded)]
        _print_row(label, hits, sum(found), sum(coded))
        if label == arguments.show:
            for row, f, c in zip(rows, found, coded, strict=True):
                if f != c:
                    print(f"    study {row['uid']}: {'read, not coded' if f else 'coded, not read'}")
    _print_row("micro", *totals)


def _print_row(label: str, hits: int, read: int, coded: int) -> None:
    precision, recall = hits / max(read, 1), hits / max(coded, 1)
    f1 = 2 * hits / max(read + coded, 1)
    print(f"{label:28s} {coded:5d} {read:5d}      {precision:.3f}  {recall:.3f} {f1:.3f}")


if __name__ == "__main__":
    main()
