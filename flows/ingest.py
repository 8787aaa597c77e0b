"""Bring archives in as one version of a dataset."""

from __future__ import annotations

from prefect import flow

from crrg.config.data import IngestConfig
from crrg.config.references import IngestSummary
from crrg.operations.summaries import ingest_markdown, shards_markdown
from flows.finished import keep
from flows.pages import show_page
from tasks.data import decode_films, ingest_archives, plan_shards
from tasks.policy import SHARDED_FLOW
from tasks.runners import run_shards


@flow(flow_run_name="ingest-{config.dataset}", **SHARDED_FLOW)
def ingest(config: IngestConfig) -> IngestSummary:
    """Turn archives of films and reports into a dataset; what cannot be used is quarantined with a reason.

    Where shards run elsewhere, they decode beforehand and stage what they made; the dataset is the same. An ingest that
    was cut off is run again: shards that were staged are kept.

    Args:
        config: Sources, dataset name, image size, split, where shards run.
    """
    shards = () if config.fan_out.task_runner == "here" else plan_shards(config)
    staged = run_shards(config.fan_out, decode_films, [{"config": config, "shard": shard} for shard in shards])
    summary = ingest_archives(config)
    keep(summary)
    show_page(ingest_markdown(summary) + shards_markdown(staged), "ingest")
    return summary
