"""Deliver drafts to the hospital's systems; off unless the identified zone is set."""

from __future__ import annotations

from prefect import flow, runtime

from crrg.config.references import DeliverySummary
from crrg.config.running import DeliverConfig
from crrg.operations.delivery.ending import check_delivered
from crrg.operations.summaries import delivery_markdown
from flows.pages import show_page
from tasks.delivery import deliver_drafts
from tasks.policy import FLOW


def run_name() -> str:
    """Return what a run is called: after the night whose drafts it takes."""
    return f"deliver-{runtime.flow_run.parameters['config'].date or 'all-nights'}"


@flow(flow_run_name=run_name, **FLOW)
def deliver(config: DeliverConfig) -> DeliverySummary:
    """Write current drafts as FHIR, DICOM SR and Secondary Capture under the identifiers of their sources.

    Only the worker of the pool ``deliver`` runs this, which alone may reach the identified root; without such a worker
    runs wait. Drafts stay drafts: preliminary and unverified. A run that could deliver nothing has failed, with the
    reasons in its state.

    Args:
        config: Inbox, night, documents, archive.
    """
    summary = deliver_drafts(config)
    show_page(delivery_markdown(summary), "deliver")
    check_delivered(summary)
    return summary
