"""Pages of a flow in the orchestrator's view; work that a server's outage must not end makes them here."""

from __future__ import annotations

import logging

from prefect.artifacts import create_markdown_artifact

logger = logging.getLogger(__name__)


def show_page(markdown: str, key: str) -> None:
    """Show a page beside the run; where the server does not take it, the run continues without.

    Args:
        markdown: The page.
        key: Its name.
    """
    try:
        create_markdown_artifact(markdown, key=key)
    except Exception as error:
        logger.warning("the Prefect server did not take the page %s (%s); the run continues", key, type(error).__name__)
