"""Move the champion alias by hand."""

from __future__ import annotations

from prefect import flow, runtime

from crrg.config.references import PromotionResult
from crrg.config.running import PromoteConfig
from crrg.operations.summaries import promotion_markdown
from flows.pages import show_page
from tasks.policy import FLOW
from tasks.registry import move_champion


def run_name() -> str:
    """Return what a run is called: after the version that it makes champion; no form says which one is before."""
    return f"promote-{runtime.flow_run.parameters['config'].version or 'back'}"


@flow(flow_run_name=run_name, **FLOW)
def promote(config: PromoteConfig) -> PromotionResult:
    """Make a version that has passed its gate the champion, or roll back to the previous one.

    Args:
        config: Version, or rollback.
    """
    result = move_champion(config)
    show_page(promotion_markdown(result), "promote")
    return result
