"""Tables of what was measured so far; what is missing is said to be missing."""

from __future__ import annotations

from typing import Any

from benchmarks.generation_quality.contest_report import contest_tables, table
from benchmarks.generation_quality.lungs import NUM_FOLDS, is_current
from benchmarks.generation_quality.provenance import is_scored_by_this
from crrg.evaluation.scorecard import Scorecard

Rows = dict[str, Any]
LEAST_LUNG_IOU = 0.86


def markdown(rows: Rows) -> str:
    """Return the tables of all finished measurements; those of another program are left out."""
    rows = _current(rows)
    parts = [_lungs(rows)]
    for name, row in rows.items():
        if name.startswith(("drawn/", "openi/")):
            parts.append(_cohort(name, row))
    parts += contest_tables(rows)
    return "\n\n".join(part for part in parts if part) + "\n"


def unmet(rows: Rows) -> list[str]:
    """Return what is promised and does not hold, of what was measured."""
    rows = _current(rows)
    wrong = [
        f"{name}: mean IoU {row['mean_iou']:.3f}, at least {LEAST_LUNG_IOU} is promised"
        for name, row in rows.items()
        if name.endswith("/out-of-fold") and row["mean_iou"] < LEAST_LUNG_IOU
    ]
    for name, row in rows.items():
        if name.startswith(("drawn/", "openi/")) and row["clinical"]["never_right"]:
            wrong.append(f"{name}: F1 = 0 for {', '.join(row['clinical']['never_right'])}")
    return wrong


def _current(rows: Rows) -> Rows:
    """Leave out what another program made, and summaries of lungs whose interval was of another mean."""
    return {
        name: row
        for name, row in rows.items()
        if is_current(name) and is_scored_by_this(name) and "interval_of_film_means" not in row
    }


def _lungs(rows: Rows) -> str:
    folds = [name for name in rows if name.startswith("lungs/") and "/fold" in name]
    ends = ("/out-of-fold", "/summary")
    done = {name: row for name, row in rows.items() if name.startswith("lungs/") and name.endswith(ends)}
    lines = [
        (
            "drawn films only" if "drawn-only" in name else "other patients' real films",
            row["preset"],
            row["device"],
            str(row["num_films"]),
            f"{row['mean_iou']:.3f}",
            f"{row['interval'][0]:.3f} to {row['interval'][1]:.3f}",
            f"{row['iou_right_lung']:.3f}",
            f"{row['iou_left_lung']:.3f}",
            f"{row['mean_iou_outlined']:.3f}",
            f"{row['mean_box_iou']:.3f}",
            f"{row['detected_share']:.3f}",
            f"{row['worst_iou']:.3f} (film {row['worst_film']})",
        )
        for name, row in done.items()
    ]
    if not folds and not lines:
        return ""
    columns = (
        "trained on",
        "preset",
        "device",
        "films",
        "mean IoU",
        "95 %",
        "right",
        "left",
        "outlined films",
        "mean box",
        "found",
        "worst",
    )
    return f"## Real lungs, {len(folds)} of {NUM_FOLDS} folds\n\n{table(columns, lines)}"


def _cohort(name: str, row: Rows) -> str:
    regions, clinical = row["regions"], row["clinical"]
    detection = [
        (key.removeprefix("detection/iou/"), f"{value:.3f}", f"{regions['mean box'][key]:.3f}")
        for key, value in regions["detection"].items()
        if key.startswith("detection/iou/")
    ]
    overall = [
        (key, *(f"{regions[which][f'detection/{key}']:.3f}" for which in ("detection", "mean box")))
        for key in ("mean_region_iou", "detected_share", "recall_at_50")
    ]
    selection = [
        (which, *(f"{regions[which][f'selection/{key}']:.3f}" for key in ("precision", "recall", "f1")))
        for which in ("selection", "usual regions")
    ] + [
        (which, *(f"{regions[which][key]:.3f}" for key in ("precision", "recall", "f1")))
        for which in ("abnormality", "all abnormal")
    ]
    text = list(row["text"])
    metrics = [(key, *(f"{row['text'][which][key]:.3f}" for which in text)) for key in row["text"]["drafts"]]
    efficacy = [
        (key, *(f"{clinical['overall'][which][key]:.3f}" for which in text)) for key in clinical["overall"]["drafts"]
    ]
    conditions = [
        (label, str(each["positives"]), *(f"{each[key]:.3f}" for key in ("precision", "recall", "f1")))
        for label, each in clinical["conditions"].items()
    ]
    sentences = [(which, *(f"{value:.3f}" for value in each.values())) for which, each in row["sentences"].items()]
    never = ", ".join(clinical["never_right"]) or "none"
    return "\n\n".join(
        [
            f"## Cohort {name}: {row['num_films']} films",
            f"Bundle of preset: {row['preset']}. Drafted on: {row['device']}.",
            Scorecard.from_dict(row["scorecard"]).to_markdown(),
            table(("region", "IoU", "mean box"), [*overall, *detection]),
            table(("decision", "precision", "recall", "F1"), selection),
            table(("figure", *text), [*metrics, *efficacy]),
            table(("condition", "positives", "precision", "recall", "F1"), conditions),
            f"Conditions with 20 positives or more and F1 = 0: {never}.",
            table(("texts", *row["sentences"]["drafts"]), sentences),
        ]
    )
