"""Run one flow from the command line: ``python -m flows NAME CONFIG_JSON``; ``crrg`` becomes this process.

Where ``PREFECT_API_URL`` names a server, the run is recorded there; all but the demo go on without it where it does
not answer: what the flow had finished is found. Else a private server lives as long as the run, its database under a
local root.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from crrg.cli.endings import ENDINGS
from crrg.cli.running import execute, exits
from crrg.config.base import Settings
from crrg.errors import CrrgError, NightStopped, TooManyRefused
from crrg.operations.root import PREFECT_HOME, keep_to_owner
from crrg.storage import Storage
from deployments.services import PREFECT_ENV
from flows.finished import keeping
from flows.outbox import send_the_rest

logger = logging.getLogger(__name__)

PRIVATE_ENV = {"PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_SERVER_LOGGING_LEVEL": "ERROR"}
IMPATIENT_ENV = {"PREFECT_CLIENT_MAX_RETRIES": "2"}
"""For nights, which go on without their server: each call is given up after 6 s, not after Prefect's 62 s."""


def main(name: str, config_json: str) -> None:
    """Run a flow and exit with the code that the same command without orchestrator would have."""
    ending = ENDINGS[name]
    with exits():
        config = ending.config.model_validate(json.loads(config_json))
        settings = Settings()
        prepare_environment(Storage(settings.root, settings.storage), is_hurried=ending.is_hurried)
    execute(
        root="",
        action=lambda storage, settings: run_or_go_on(name, config, storage, settings),
        render=ending.render,
        exit_code=ending.code,
    )


def run_or_go_on(name: str, config: Any, storage: Storage, settings: Settings) -> Any:
    """Run a flow; where its server does not answer, go on without it: what the flow has finished is kept."""
    direct = ENDINGS[name].direct
    with keeping() as published:
        try:
            return run_flow(name, config)
        except (NightStopped, TooManyRefused) as error:
            return error.summary
        except Exception as error:
            if direct is None or not is_out_of_reach(error):
                raise
            if published:
                logger.warning("the Prefect server does not answer; %s was published before", name)
                return published[-1]
            logger.warning("the Prefect server does not answer; %s continues without it", name)
            return direct(config, storage, settings)
        finally:
            send_the_rest()


def is_out_of_reach(error: BaseException | None) -> bool:
    """Return whether an error comes from a server that does not answer, or that says that it cannot (5xx)."""
    import httpx

    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, CrrgError):  # of our own stores and archives, which may speak HTTP too
            return False
        if isinstance(error, httpx.TransportError) or "Failed to reach API" in str(error):
            return True
        if isinstance(error, httpx.HTTPStatusError) and error.response.is_server_error:
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


def prepare_environment(storage: Storage, *, is_hurried: bool) -> None:
    """Set what Prefect reads when it is imported; what the environment already says wins. Files are the owner's alone.

    Args:
        storage: The root.
        is_hurried: Whether a server that does not answer is given up soon.
    """
    keep_to_owner()
    defaults = {**PREFECT_ENV, **(IMPATIENT_ENV if is_hurried else {})}
    if not os.environ.get("PREFECT_API_URL"):
        defaults |= PRIVATE_ENV
        if storage.is_local:
            home = Path(storage.url(PREFECT_HOME))
            home.mkdir(parents=True, exist_ok=True)
            defaults["PREFECT_HOME"] = str(home)
    for variable, value in defaults.items():
        os.environ.setdefault(variable, value)


def run_flow(name: str, config: Any) -> Any:
    """Import the flow, make sure that the GPU limit exists, and run it in this process."""
    from deployments.bootstrap import ensure_gpu_limit

    flow = getattr(importlib.import_module(f"flows.{name}"), name)
    ensure_gpu_limit()
    return flow(config)


if __name__ == "__main__":
    main(*sys.argv[1:])
