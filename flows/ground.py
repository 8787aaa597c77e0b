"""Give the films of a dataset regions by a trained detector."""

from __future__ import annotations

from prefect import flow

from crrg.config.references import DatasetRef
from crrg.config.running import GroundConfig
from crrg.operations.summaries import grounding_markdown
from flows.pages import show_page
from tasks.data import ground_films
from tasks.policy import FLOW


@flow(flow_run_name="ground-{config.dataset}", **FLOW)
def ground(config: GroundConfig = GroundConfig()) -> DatasetRef:
    """Find the regions of a dataset's films with a detector and tie their reports to them, as a new version.

    Args:
        config: Dataset, model, least score of a box and device.
    """
    grounded = ground_films(config)
    show_page(grounding_markdown(grounded), "ground")
    return grounded
