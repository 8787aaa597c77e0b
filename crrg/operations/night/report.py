"""A night as people see it afterwards: a tracked run, and a page of Markdown with links; no patient's data in either.

Nothing here can undo or fail a night that was published: while the tracking server is away its run waits in the spool.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress

from crrg.config.base import Settings
from crrg.config.references import NightSummary
from crrg.errors import CrrgError, StorageError
from crrg.operations.night.summary import note_told, untold_nights
from crrg.operations.spool import TrackedRun, reason_of, track
from crrg.operations.summaries import night_report
from crrg.storage import Storage
from crrg.tracking.models import PIPELINE_MODEL

logger = logging.getLogger(__name__)

EXPERIMENT = "nightly"


def report_night(
    summary: NightSummary, storage: Storage, settings: Settings, *, tags: Mapping[str, str] | None = None
) -> str:
    """Record a committed night as a run, and return its page.

    Args:
        summary: The night.
        storage: The root.
        settings: Name the tracking server, if there is one.
        tags: Ids that tie the run to the orchestrator.

    Returns:
        Markdown; of a night without a commit only what became of it, and no run.
    """
    if summary.status != "committed":
        return night_report(summary, {})
    links = {}
    try:
        links = _track(summary, storage, settings, tags or {})
    except (CrrgError, OSError) as error:
        logger.warning("night %s did not reach the tracking server: %s", summary.date, reason_of(error))
    with suppress(StorageError):
        note_told(summary.manifest_key, storage)
    return night_report(summary, links, storage.root)


def tell_untold(
    storage: Storage, settings: Settings, *, tags: Mapping[str, str] | None = None
) -> list[tuple[NightSummary, str]]:
    """Record the committed nights whose process was ended before it could, or is about to.

    Args:
        storage: The root.
        settings: Name the tracking server, if there is one.
        tags: Ids that tie the runs to the orchestrator's run that tells of them.

    Returns:
        Each night with its page; what only its process knew, its times and shards, is not in it.
    """
    told: list[tuple[NightSummary, str]] = []
    try:
        for summary in untold_nights(storage):
            told.append((summary, report_night(summary, storage, settings, tags=tags)))
            share = f"{summary.failure_share:.0%} of its inputs in scope were refused"
            more = f"; {share}, more than max_failure_rate allows" if summary.exceeds_failure_rate else ""
            logger.warning("the process of night %s ended before it could announce it%s", summary.date, more)
    except (CrrgError, OSError, ValueError) as error:
        logger.warning("nights that were not announced could not be looked up (%s)", type(error).__name__)
    return told


def night_metrics(summary: NightSummary) -> dict[str, float]:
    """Return a night as numbers by ``protocol/name``."""
    metrics: dict[str, float] = {
        "night/num_inputs": summary.num_inputs,
        "night/num_accepted": summary.num_accepted,
        "night/num_quarantined": summary.num_quarantined,
        "night/num_pending": summary.num_pending,
        "night/num_flagged": summary.num_flagged,
        "night/failure_share": summary.failure_share,
        "night/num_shards_on_cpu": summary.num_shards_on_cpu,
        **{f"refused/{reason}": number for reason, number in summary.reasons.items()},
        **{f"time/{stage}_s": seconds for stage, seconds in summary.times_s.items()},
    }
    if summary.watch is not None:
        metrics["drift/num_flagged"] = len(summary.watch.flagged)
        metrics |= {f"prevalence/{label}": share for label, share in summary.watch.prevalence.items()}
        metrics |= {f"drift/{each.quantity}": each.psi for each in summary.watch.findings}
    return metrics


def _track(summary: NightSummary, storage: Storage, settings: Settings, tags: Mapping[str, str]) -> dict[str, str]:
    """Log the run; return links to it and to the model, where they can be opened."""
    about = {
        "date": summary.date,
        "bundle_id": summary.bundle_id,
        "model_version": summary.model_version,
        "manifest": summary.manifest_key,
        "digest": summary.digest,
        "flagged": str(summary.is_flagged).lower(),
        "watch": summary.watch.status if summary.watch else "",
    }
    run = TrackedRun(
        experiment=EXPERIMENT,
        run_name=f"{EXPERIMENT}-{summary.date}",
        tags={**tags, **about},
        metrics=night_metrics(summary),
        texts={"night.md": night_report(summary, {}, storage.root)},
    )
    run_id = track(run, storage, settings)
    server = (settings.mlflow_public_url or settings.mlflow_tracking_uri).rstrip("/")
    if not (run_id and server.startswith("http")):
        return {}
    links = {"Run of this night": f"{server}/#/runs/{run_id}"}
    if summary.model_version:
        links["Model"] = f"{server}/#/models/{PIPELINE_MODEL}/versions/{summary.model_version}"
    return links
