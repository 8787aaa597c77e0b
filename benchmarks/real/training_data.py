"""What `make real` trains on: drawn films, drawn films that fit real reports, real films, real reports, in one dataset.

Reports of the Open-i collection that get a drawn film are left out of the text-only rows, so that no text is in two
splits. Nothing of a collection is written anywhere but under the work folder.
"""

from __future__ import annotations

import csv
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from crrg.config.base import default_num_workers
from crrg.config.data import IngestConfig
from crrg.config.references import DatasetRef
from crrg.config.running import DemoConfig
from crrg.data.dataset.pairs import read_pairs
from crrg.domain.study import Split
from crrg.operations.demo import FILM_SIZE, draw_training_cohort
from crrg.operations.phantom import draw_phantom
from crrg.storage import Storage

logger = logging.getLogger(__name__)

DATASET = "real"
FILMS, REPORTS, DICOM, LUNGS = "covid-cxr", "openi", "dicom", "lungs"
WORDED_SEED_OFFSET = 2_000_003
"""Films that fit real reports are drawn under another seed, so that no drawn patient is in both cohorts."""
NEEDED = (f"{FILMS}/metadata.csv", f"{REPORTS}/reports.csv", f"{DICOM}/manifest.csv", f"{LUNGS}/boxes.csv")


@dataclass(frozen=True)
class DatasetRows:
    """What became of the sources in the dataset.

    Attributes:
        rows: Source kind and split to number of rows.
        num_real_films: Rows of the film collection.
        num_targets: Rows of it that a generator could learn to write; must be 0, their texts are case histories.
        num_read_notes: Rows of it with a sentence that reads the film, for the contrastive stage.
    """

    rows: dict[tuple[str, str], int]
    num_real_films: int
    num_targets: int
    num_read_notes: int


def missing_collections(open_data: Path | None) -> str:
    """Return why the collections cannot be used, with the way out; empty where they can."""
    way_out = "put the collections of docs/real-data.md into a folder and set CRRG_OPEN_DATA to it"
    if open_data is None:
        return f"make real needs real films and reports, and CRRG_OPEN_DATA is not set; {way_out}"
    missing = [name for name in NEEDED if not (open_data / name).is_file()]
    return f"{open_data} lacks {', '.join(missing)}; {way_out}" if missing else ""


def make_sources(storage: Storage, open_data: Path, num_drawn: int, num_worded: int, seed: int) -> tuple[str, ...]:
    """Draw what has to be drawn and return all sources of the dataset, as ``kind:URL``.

    Args:
        storage: Root; drawn cohorts lie beside it and are reused.
        open_data: Folder of the collections.
        num_drawn: Drawn films with drawn reports.
        num_worded: Drawn films that fit real reports.
        seed: Seed of the drawings.
    """
    drawn = draw_training_cohort(DemoConfig(num_studies=num_drawn, seed=seed), storage)
    worded = Storage(f"{storage.root}-source/worded-{seed}-{num_worded}")
    table = open_data / REPORTS / "reports.csv"
    if not worded.exists("truth.parquet"):
        draw_phantom(
            worded.root,
            num_worded,
            seed + WORDED_SEED_OFFSET,
            FILM_SIZE,
            reports=str(table),
            workers=default_num_workers(),
        )
    rest = Path(f"{storage.root}-source/reports-{seed}-{num_worded}")
    _write_other_reports(table, Path(worded.url("truth.parquet")), rest)
    return f"phantom:{drawn}", f"phantom:{worded.root}", f"folder:{open_data / FILMS}", f"openi:{rest}"


def ingest_form(sources: tuple[str, ...], seed: int) -> IngestConfig:
    """Return the ingest form of the one dataset."""
    return IngestConfig(
        source=sources, dataset=DATASET, image_size=FILM_SIZE, train_share=0.8, validation_share=0.15, seed=seed
    )


def count_rows(storage: Storage, dataset: DatasetRef) -> DatasetRows:
    """Read the dataset back and count what it holds."""
    rows: Counter[tuple[str, str]] = Counter()
    num_films = num_targets = num_read_notes = 0
    for split in Split:
        for pair in read_pairs(storage, dataset, split):
            rows[pair.source, split.value] += 1
            if pair.source == "folder":
                num_films += 1
                num_targets += bool(pair.report.findings) or any(region.phrase for region in pair.regions)
                num_read_notes += bool(pair.report.text)
    return DatasetRows(dict(rows), num_films, num_targets, num_read_notes)


def _write_other_reports(table: Path, truth: Path, folder: Path) -> None:
    """Write the rows of the report table that no drawn film was made for."""
    used = {str(uid) for uid in pq.read_table(truth, columns=["index"])["index"].to_pylist()}
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if row["uid"] not in used]
        columns = list(reader.fieldnames or ())
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "reports.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
