"""Run one flow from the command line: ``python -m flows NAME CONFIG_JSON``; ``crrg`` becomes this process.

Where ``PREFECT_API_URL`` names a server, the run is recorded there. Else a private server lives as long as the run, its
database under a local root.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from crrg.cli.endings import ENDINGS
from crrg.cli.running import execute
from crrg.config.base import Settings
from crrg.storage import Storage
from deployments.services import PREFECT_ENV

PRIVATE_ENV = {"PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_SERVER_LOGGING_LEVEL": "ERROR"}


def main(name: str, config_json: str) -> None:
    """Run a flow and exit with the code that the same command without orchestrator would have."""
    ending = ENDINGS[name]
    config = ending.config.model_validate(json.loads(config_json))
    settings = Settings()
    prepare_environment(Storage(settings.root, settings.storage))
    execute(
        root="",
        action=lambda _storage, _settings: run_flow(name, config),
        render=ending.render,
        exit_code=ending.code,
    )


def prepare_environment(storage: Storage) -> None:
    """Set what Prefect reads when it is imported; what the environment already says wins."""
    defaults = dict(PREFECT_ENV)
    if not os.environ.get("PREFECT_API_URL"):
        defaults |= PRIVATE_ENV
        if storage.is_local:
            home = Path(storage.url(".prefect"))
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
