"""The whole pipeline on real input (``make real``): ingest, training, and a night over real films in a real bucket.

Needs the open collections of ``docs/real-data.md`` under ``CRRG_OPEN_DATA``. Prints what became of every file and fails
where that is not what the collections' own tables demand. Run: ``python -m benchmarks.real_night --root FOLDER``
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.real.inbox import DRAFT, FileEnd, real_inbox, unmet_expectations
from benchmarks.real.lungs import LungRow, drawn_mean_boxes, lung_rows
from benchmarks.real.night import RealNight, object_store, run_real_night, unmet_counts
from benchmarks.real.training_data import (
    DATASET,
    DatasetRows,
    count_rows,
    ingest_form,
    make_sources,
    missing_collections,
)
from crrg.cli.running import exits, use_root
from crrg.cli.terminal import log_lines
from crrg.config.base import Settings
from crrg.config.references import IngestSummary, RetrainResult
from crrg.config.running import RetrainConfig
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.operations.ingest.ingest import ingest
from crrg.operations.root import make_demo_root, open_root
from crrg.operations.scoring.evaluate import read_scorecard
from crrg.operations.summaries import table
from crrg.operations.training.retrain import retrain
from crrg.storage import Storage

EXIT_UNMET = 1
EXIT_NO_DATA = 2
HUMAN_IOU = 0.895
"""Mean IoU of two annotators on the 58 lungs that both drew (README of the collection)."""
NUM_LABELS_SHOWN = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="./crrg-data-real", help="work folder; drawn cohorts lie beside it")
    parser.add_argument("--drawn", type=int, default=900, help="drawn films with drawn reports")
    parser.add_argument("--worded", type=int, default=250, help="drawn films that fit real reports")
    parser.add_argument("--preset", default="tiny", choices=("tiny", "small", "base"))
    parser.add_argument("--num-steps", type=int, default=0, help="steps of every stage; the preset's if 0")
    parser.add_argument("--max-films", type=int, default=0, help="most films of the collection in the night; all if 0")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    use_root(arguments.root)
    with exits(), log_lines():
        raise SystemExit(run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Do all of it; return the exit code."""
    started = time.monotonic()
    open_data = Settings().open_data
    problem = missing_collections(open_data)
    if problem or open_data is None:
        print(problem, file=sys.stderr)
        return EXIT_NO_DATA
    make_demo_root()
    storage, settings = open_root()
    sources = make_sources(storage, open_data, arguments.drawn, arguments.worded, arguments.seed)
    summary = ingest(ingest_form(sources, arguments.seed), storage, Pseudonyms(settings.pseudonym_key()))
    rows = count_rows(storage, summary.dataset)
    print_dataset(summary, rows)
    trained = retrain(
        RetrainConfig(dataset=DATASET, preset=arguments.preset, num_steps=arguments.num_steps, seed=arguments.seed),
        storage,
        settings,
    )
    print_training(trained, storage)
    files = real_inbox(open_data, arguments.max_films)
    with object_store(Path(f"{storage.root}-source/object-store")) as store:
        night = run_real_night(files, trained.evaluation.bundle, storage, settings, store)
    print_night(night)
    print_lungs(lung_rows(open_data, night.ends, drawn_mean_boxes(storage, summary.dataset)))
    print(f"\nReview page: {night.review_page}")
    print(f"Time: {time.monotonic() - started:.0f} s")
    return verdict([*unmet_rows(summary, rows), *unmet_counts(night), *unmet_expectations(night.ends)])


def unmet_rows(summary: IngestSummary, rows: DatasetRows) -> list[str]:
    """Return what is wrong with the dataset; empty if nothing is."""
    wrong = []
    if summary.num_accepted + summary.num_quarantined != summary.num_inputs:
        wrong.append(
            f"ingest: {summary.num_inputs} inputs, but {summary.num_accepted} + {summary.num_quarantined} ends"
        )
    if sum(rows.rows.values()) != summary.num_accepted:
        wrong.append(f"dataset: {sum(rows.rows.values())} rows, expected {summary.num_accepted}")
    if rows.num_targets:
        wrong.append(f"dataset: {rows.num_targets} case histories became targets of the generator, expected 0")
    return wrong


def verdict(wrong: Sequence[str]) -> int:
    """Print what did not hold; return the exit code."""
    print("\n".join(["", f"{len(wrong)} expectations do not hold:", *wrong]) if wrong else "\nAll expectations hold.")
    return EXIT_UNMET if wrong else 0


def print_dataset(summary: IngestSummary, rows: DatasetRows) -> None:
    kinds = sorted({kind for kind, _ in rows.rows})
    splits = ("train", "validation", "test")
    print(f"\n# Dataset {summary.dataset.name}, version {summary.dataset.version}\n")
    print(
        table(("source", *splits), [(kind, *(rows.rows.get((kind, split), 0) for split in splits)) for kind in kinds])
    )
    refused = ", ".join(f"{count} {reason}" for reason, count in sorted(summary.reasons.items())) or "none"
    print(f"\n{summary.num_inputs} inputs, {summary.num_accepted} accepted; refused: {refused}")
    print(
        f"{rows.num_real_films} real films: {rows.num_targets} targets of the generator, "
        f"{rows.num_read_notes} with a sentence that reads the film"
    )


def print_training(trained: RetrainResult, storage: Storage) -> None:
    print("\n# Training\n")
    stages = [(stage.stage, "reused" if stage.reused else f"{stage.duration_s:.0f} s") for stage in trained.stages]
    print(table(("stage", "training"), stages))
    print(f"\n{read_scorecard(trained.evaluation, storage).to_markdown()}")
    decided = "champion" if trained.promotion.promoted else "; ".join(trained.promotion.reasons)
    print(f"\nBundle {trained.evaluation.bundle.bundle_id}: {decided}")


def print_night(night: RealNight) -> None:
    print(f"\n# Night {night.summary.date} in the bucket\n")
    print(table(("file", "end", "what"), [(end.file.key, end.outcome, described(end)) for end in night.ends]))
    by_folder = Counter((end.file.key.split("/", 1)[0], end.reason or "draft") for end in night.ends)
    print("\n" + table(("folder", "end", "files"), [(*key, count) for key, count in sorted(by_folder.items())]))
    summary = night.summary
    print(
        f"\n{summary.num_inputs} inputs = {summary.num_accepted} drafted + {summary.num_quarantined} quarantined "
        f"+ {summary.num_pending} pending; {summary.num_flagged} flagged; digest {summary.digest}"
    )


def described(end: FileEnd) -> str:
    """Return a draft's figures, or the reason with what was expected where that was a draft."""
    if end.draft is None:
        return end.reason if end.file.expected != DRAFT else f"{end.reason} (a picture that is drafted once)"
    likely = sorted(end.draft.probabilities.items(), key=lambda item: -item[1])[:NUM_LABELS_SHOWN]
    shown = ", ".join(f"{label} {value:.2f}" for label, value in likely)
    num_found = sum(region.detected for region in end.draft.regions)
    num_said = sum(region.selected for region in end.draft.regions)
    return (
        f"{len(end.draft.probabilities)} probabilities ({shown}); {len(end.draft.regions)} boxes, "
        f"{num_found} sure, {num_said} worded"
    )


def print_lungs(rows: Sequence[LungRow]) -> None:
    print("\n# Lung boxes on real films against boxes that people drew\n")
    columns = ("lung", "films", "IoU", "95 %", "IoU >= 0.5", "mean drawn box", "mean real box", "detected")
    print(
        table(
            columns,
            [
                (
                    row.region,
                    row.num_films,
                    f"{row.iou:.3f}",
                    f"{row.interval[0]:.3f}..{row.interval[1]:.3f}",
                    f"{row.share_half:.0%}",
                    f"{row.drawn_mean_box:.3f}",
                    f"{row.real_mean_box:.3f}",
                    f"{row.share_detected:.0%}",
                )
                for row in rows
            ],
        )
    )
    print(f"\nTwo people who drew the same lung agree to {HUMAN_IOU:.3f}. No real box was trained on.")


if __name__ == "__main__":
    main()
