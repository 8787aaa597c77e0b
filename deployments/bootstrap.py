"""Create what deployments refer to: the work pool and the limit of the GPU. Running it twice changes nothing."""

from __future__ import annotations

import logging

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

logger = logging.getLogger(__name__)

POOL = "local"
GPU_LIMIT = "gpu"
NUM_GPU_SLOTS = 1


def bootstrap(num_gpu_slots: int = NUM_GPU_SLOTS) -> list[str]:
    """Create the process pool and the GPU limit where they are missing; return what was created."""
    created = []
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
            created.append(f"work pool {POOL}")
        if ensure_gpu_limit(num_gpu_slots):
            created.append(f"limit {GPU_LIMIT} = {num_gpu_slots}")
    return created


def ensure_gpu_limit(num_slots: int = NUM_GPU_SLOTS) -> bool:
    """Create the global limit around GPU work where it is missing; an existing one keeps its number.

    Returns:
        Whether it was created.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(GPU_LIMIT)
        except ObjectNotFound:
            client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, num_slots)
            return True
    return False


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    logger.info("created: %s", ", ".join(bootstrap()) or "nothing, all of it exists")
