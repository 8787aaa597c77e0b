"""The demo's own steps: draw cohorts, and score a committed night against what was drawn.

Everything between them (ingest, retraining, the night) is what any user runs. Drawn sources lie beside the root, not in
it, since the root holds pseudonyms only: ``<root>-source/<cohort>``.
"""

from __future__ import annotations

import logging
from typing import Any

from crrg.config.base import default_num_workers
from crrg.config.data import IngestConfig
from crrg.config.references import DatasetRef
from crrg.config.running import DemoConfig
from crrg.data.dataset.pairs import read_pairs
from crrg.data.phantom.cohort import write_cohort
from crrg.domain.labels import LABELS, label_column
from crrg.domain.study import DraftReport, RegionPrediction, Split
from crrg.errors import ModelError
from crrg.evaluation.scorecard import Scorecard
from crrg.exports.parquet import REGIONS_SCHEMA, REPORTS_SCHEMA
from crrg.ledger.manifest import read_manifests
from crrg.ledger.tables import read_tables
from crrg.operations.scoring.cases import Case, fit_baselines
from crrg.operations.scoring.labels import gather_evidence
from crrg.operations.scoring.score import ScoredDrafter, permute_drafts, score_cases
from crrg.storage import Storage

logger = logging.getLogger(__name__)

TRAINING_DATASET = "demo"
FRESH_DATASET = "demo-fresh"
FILM_SIZE = 256
FRESH_SEED_OFFSET = 1_000_003
"""Fresh studies are drawn under another seed, so that no patient is in both cohorts."""


def training_source(config: DemoConfig, storage: Storage) -> Storage:
    """Return where the drawn training cohort of a form lies."""
    return storage.at(f"{storage.root}-source/train-{config.seed}-{config.num_studies}")


def fresh_source(config: DemoConfig, storage: Storage) -> Storage:
    """Return where the drawn fresh studies of a form lie; its ``dicom`` folder is the night's inbox."""
    return storage.at(f"{storage.root}-source/fresh-{config.seed}-{config.num_fresh_studies}")


def draw_training_cohort(config: DemoConfig, storage: Storage) -> str:
    """Draw the training cohort unless it lies there already; return its URL."""
    return _draw(training_source(config, storage), config.num_studies, config.seed)


def draw_fresh_studies(config: DemoConfig, storage: Storage) -> str:
    """Draw the fresh studies unless they lie there already; return the URL of the inbox."""
    source = fresh_source(config, storage)
    _draw(source, config.num_fresh_studies, config.seed + FRESH_SEED_OFFSET)
    return source.url("dicom")


def training_ingest(config: DemoConfig, storage: Storage) -> IngestConfig:
    """Return the ingest form of the training cohort."""
    return IngestConfig(
        source=(training_source(config, storage).root,),
        dataset=TRAINING_DATASET,
        source_kind="phantom",
        image_size=FILM_SIZE,
        train_share=0.8,
        validation_share=0.15,
        seed=config.seed,
    )


def fresh_ingest(config: DemoConfig, storage: Storage) -> IngestConfig:
    """Return the ingest form of the fresh studies, all of them test rows: the truth to score the night against."""
    return IngestConfig(
        source=(fresh_source(config, storage).root,),
        dataset=FRESH_DATASET,
        source_kind="phantom",
        image_size=FILM_SIZE,
        train_share=0.0,
        validation_share=0.0,
        seed=config.seed,
    )


def score_night(
    date: str,
    training: DatasetRef,
    fresh: DatasetRef,
    storage: Storage,
    drafter: ScoredDrafter | None = None,
    *,
    permuted: bool = False,
) -> Scorecard:
    """Score the drafts that a night committed against the drawn truth.

    Args:
        date: The night.
        training: Dataset whose training split gives the baselines.
        fresh: Dataset of the same studies, with their reports, boxes and labels.
        storage: Root with the committed night.
        drafter: Pipeline that adds label head, probe, zero-shot, retrieval and abnormality; they are left out where not
            given.
        permuted: Whether every film is given another film's draft: what survives that does not come from the picture.

    Raises:
        ModelError: The night committed none of the studies.
    """
    drafts = committed_drafts(storage, date)
    pairs = read_pairs(storage, fresh, Split.TEST)
    cases = [Case(pair, drafts[pair.instance_id]) for pair in pairs if pair.instance_id in drafts]
    if not cases:
        raise ModelError("the night committed no draft of these studies; run the night again", date)
    if permuted:
        cases = permute_drafts(cases)
    films = [case.reference.film for case in cases if case.reference.film is not None]
    evidence = None if drafter is None else gather_evidence(drafter, films, training, storage)
    return score_cases(
        cases,
        fit_baselines(storage, training),
        evidence=evidence,
        subject={"night": date, "dataset": fresh.name, "dataset_version": fresh.version},
        abnormal_threshold=None if drafter is None else drafter.thresholds.abnormal,
    )


def committed_drafts(storage: Storage, date: str) -> dict[str, DraftReport]:
    """Read the current drafts of a night back from the tables that its manifests name, by ``instance_id``.

    Args:
        storage: Root with the night.
        date: The night; empty takes all nights. Of a film that was drafted again, the newer draft alone is current.
    """
    drafts: dict[str, DraftReport] = {}
    for manifest in read_manifests(storage, date):
        reports = read_tables(storage, manifest.files, "reports", REPORTS_SCHEMA).to_pylist()
        regions: dict[str, list[RegionPrediction]] = {}
        for row in read_tables(storage, manifest.files, "regions", REGIONS_SCHEMA).to_pylist():
            x1, y1, x2, y2 = row.pop("box_xyxy")
            regions.setdefault(row.pop("instance_id"), []).append(RegionPrediction(box_xyxy=(x1, y1, x2, y2), **row))
        drafts |= {
            row["instance_id"]: _draft(row, regions[row["instance_id"]])
            for row in reports
            if row["superseded_by"] is None
        }
    return drafts


def _draft(row: dict[str, Any], regions: list[RegionPrediction]) -> DraftReport:
    return DraftReport(
        findings=row["findings"],
        impression=row["impression"],
        regions=tuple(regions),
        probabilities={label: row[f"probability_{label_column(label)}"] for label in LABELS},
        labels={label: row[f"label_{label_column(label)}"] for label in LABELS},
        consistency=row["consistency"],
        flags=tuple(row["flags"]),
    )


def _draw(source: Storage, num_studies: int, seed: int) -> str:
    """Draw a cohort; its truth table is written last, so that its presence says that the cohort is whole."""
    if source.exists("truth.parquet"):
        logger.info("drawn cohort %s found, reused", source.root.rsplit("/", 1)[-1])
        return source.root
    write_cohort(source, num_studies, seed, FILM_SIZE, workers=default_num_workers())
    return source.root
