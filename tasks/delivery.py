"""Deliver drafts."""

from __future__ import annotations

from prefect import task

from crrg.config.references import DeliverySummary
from crrg.config.running import DeliverConfig
from crrg.operations.delivery import deliver
from crrg.operations.root import open_root
from tasks.policy import TASK


@task(task_run_name="deliver-drafts[{config.date}]", **TASK)
def deliver_drafts(config: DeliverConfig) -> DeliverySummary:
    """Write, and send where asked, every current draft that was not delivered yet."""
    storage, settings = open_root()
    return deliver.deliver(config, storage, settings)
