"""Bring archives in as one version of a dataset."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from crrg.config.data import IngestConfig
from crrg.config.references import IngestSummary
from crrg.operations.summaries import ingest_markdown
from tasks.data import ingest_archives
from tasks.policy import FLOW


@flow(flow_run_name="ingest-{config.dataset}", **FLOW)
def ingest(config: IngestConfig) -> IngestSummary:
    """Turn archives of films and reports into a dataset; what cannot be used is quarantined with a reason.

    Args:
        config: Sources, dataset name, image size, split.
    """
    summary = ingest_archives(config)
    create_markdown_artifact(ingest_markdown(summary), key="ingest")
    return summary
