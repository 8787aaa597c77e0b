"""Create what deployments refer to: work pools, limit of the GPU, automations. Running it twice changes nothing."""

from __future__ import annotations

import logging

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

from crrg.cli.running import exits
from crrg.config.base import Settings
from crrg.errors import StorageError
from deployments.automations import ensure_automations
from tasks.policy import GPU_LIMIT

logger = logging.getLogger(__name__)

POOL = "local"
NIGHT_POOL = "night"
"""Of the worker that runs nights and nothing else, so that none waits for a place."""
IDENTIFIED_POOL = "deliver"
"""Of the worker that reaches the identified zone, under an identity of its own."""
NUM_GPU_SLOTS = 1


def bootstrap() -> list[str]:
    """Create the process pools, the GPU limit and the automations where they are missing; return what was created."""
    created = []
    with get_client(sync_client=True) as client:
        for pool in (POOL, NIGHT_POOL, IDENTIFIED_POOL):
            try:
                client.read_work_pool(pool)
            except ObjectNotFound:
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
                created.append(f"work pool {pool}")
        if ensure_gpu_limit():
            created.append(f"limit {GPU_LIMIT} = {NUM_GPU_SLOTS}")
        settings = Settings()
        created += [f"automation {name}" for name in ensure_automations(client, settings.webhook_url)]
        if not settings.webhook_url.get_secret_value():
            logger.info(
                "CRRG_WEBHOOK_URL is not set: failed, cancelled, late and flagged nights are not reported; set it and "
                "run crrg bootstrap again"
            )
    return created


def ensure_gpu_limit() -> bool:
    """Create the global limit around GPU work where it is missing; an existing one keeps its number.

    Returns:
        Whether it was created.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(GPU_LIMIT)
        except ObjectNotFound:
            client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, NUM_GPU_SLOTS)
            return True
    return False


def main() -> None:
    """Run ``bootstrap`` as a command; a server that does not answer as one is said in a line.

    Raises:
        SystemExit: With 1 where it does not, else as the errors of the project have it.
    """
    with exits():
        try:
            created = bootstrap()
        except (httpx.HTTPError, httpx.InvalidURL, ObjectNotFound) as error:
            reason = f"{type(error).__name__} at {Settings().prefect_api_url}; start the Prefect server or correct it"
            raise StorageError(f"{reason}, then run again", "PREFECT_API_URL", retryable=True) from error
    logger.info("created: %s", ", ".join(created) or "nothing; everything exists already")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    main()
