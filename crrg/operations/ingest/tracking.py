"""A new dataset version as a tracked run: its counts and its data card with the sheet of samples; no text, no name."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from crrg.config.base import Settings
from crrg.config.references import IngestSummary
from crrg.data.dataset.data_card import CARD_FIGURES, SAMPLES
from crrg.data.privacy.forgotten import is_removed_from
from crrg.errors import CrrgError
from crrg.storage import Storage
from crrg.tracking.runs import open_tracker

logger = logging.getLogger(__name__)

EXPERIMENT = "ingest"


def track_ingest(summary: IngestSummary, storage: Storage, settings: Settings, tags: Mapping[str, str]) -> None:
    """Record an ingest; a tracking server that is away, or does not take it, costs the run, not the dataset.

    The sheet of samples shows films without names: a tracking server of its own belongs into the same zone as the
    root.

    Args:
        summary: What the ingest did.
        storage: The root with the card.
        settings: Name the tracking server, if there is one.
        tags: Ids that tie the run to the orchestrator.
    """
    dataset = summary.dataset
    figures = storage.get_json(summary.card_key)
    folder = summary.card_key.rpartition("/")[0]
    counts = {
        "num_inputs": summary.num_inputs,
        "num_accepted": summary.num_accepted,
        "num_quarantined": summary.num_quarantined,
        "failure_rate": summary.failure_rate,
    }
    metrics = {f"ingest/{name}": value for name, value in {**counts, **figures["leaks"]}.items()}
    metrics |= {f"rows/{split}": rows for split, rows in dataset.num_rows.items()}
    metrics |= {f"refused/{reason}": number for reason, number in summary.reasons.items()}
    metrics |= {
        f"prevalence/{label}": label_counts["share_positive"] for label, label_counts in figures["labels"].items()
    }
    tags = {**tags, "dataset": dataset.name, "dataset_version": dataset.version}
    try:
        with open_tracker(settings, storage, EXPERIMENT, f"{EXPERIMENT}-{dataset.name}", tags) as tracker:
            tracker.log_params(figures["settings"])
            tracker.log_metrics(metrics)
            for name in CARD_FIGURES:
                tracker.log_text(f"card/{name}", storage.get(f"{folder}/{name}").decode())
            if not is_removed_from(storage, dataset) and storage.exists(f"{folder}/{SAMPLES}"):
                tracker.log_picture(f"card/{SAMPLES}", storage.get(f"{folder}/{SAMPLES}"))
    except CrrgError as error:
        logger.warning("dataset %s: its card did not reach the tracking server: %s", dataset.name, error.reason)
