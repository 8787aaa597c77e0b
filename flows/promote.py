"""Move the champion alias by hand."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from crrg.config.references import PromotionResult
from crrg.config.running import PromoteConfig
from crrg.operations.summaries import promotion_markdown
from tasks.policy import FLOW
from tasks.registry import move_champion


@flow(flow_run_name="promote-{config.version}", **FLOW)
def promote(config: PromoteConfig) -> PromotionResult:
    """Make a version that has passed its gate the champion, or roll back to the previous one.

    Args:
        config: Version, or rollback.
    """
    result = move_champion(config)
    create_markdown_artifact(promotion_markdown(result), key="promote")
    return result
