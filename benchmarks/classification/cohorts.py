"""Cohorts that no setting was chosen on: another seed, and pictures drawn to fit real reports."""

from __future__ import annotations

import os
from pathlib import Path

from crrg.config.base import Settings
from crrg.config.data import IngestConfig
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.operations.demo import FILM_SIZE
from crrg.operations.ingest.ingest import ingest
from crrg.operations.phantom import draw_phantom
from crrg.operations.root import open_root
from crrg.storage import Storage

REPORTS = "openi/reports.csv"


def draw_cohort(storage: Storage, name: str, fits_reports: bool, num_studies: int, seed: int) -> None:
    """Draw a cohort beside the root and ingest it as test films; one that was drawn is found again.

    Args:
        storage: Root; its secret makes the pseudonyms.
        name: Dataset that it becomes.
        fits_reports: Whether pictures are drawn for the reports of the open data, else sampled.
        num_studies: How many studies.
        seed: Seed of the drawing.
    """
    source = f"{storage.root}-source/{name}-{seed}-{num_studies}"
    reports = str(Path(os.environ["CRRG_OPEN_DATA"]) / REPORTS) if fits_reports else None
    if not Storage(source).exists("truth.parquet"):
        draw_phantom(source, num_studies, seed, FILM_SIZE, reports, workers=1)
    os.environ["CRRG_ROOT"] = storage.root
    settings: Settings = open_root()[1]
    form = IngestConfig(
        source=(source,), dataset=name, source_kind="phantom", image_size=FILM_SIZE, train_share=0.0,
        validation_share=0.0, seed=seed,
    )  # fmt: skip
    ingest(form, storage, Pseudonyms(settings.pseudonym_key()))
