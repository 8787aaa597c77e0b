"""The whole platform on this machine (``make up``): started in order, supervised, and ended together.

Prefect server and two workers, MLflow, and a SeaweedFS bucket that holds the root and the inbox; where the
environment names an identified zone, a third worker that delivers, which alone is told of it. All of it listens on
loopback only. Data and secrets lie under ``crrg-platform/`` and stay for the next start.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import psutil

from deployments.services import (
    CHECKOUT,
    IDENTIFIED_ENV,
    PREFECT_ENV,
    Service,
    deploy_all,
    start_mlflow,
    start_object_store,
    start_prefect_server,
    start_worker,
)

logger = logging.getLogger(__name__)

BUCKET = "crrg"
ROOT = f"s3://{BUCKET}/data"
INBOX = f"s3://{BUCKET}/inbox"
PORTS: Mapping[str, int] = {"PREFECT": 4200, "MLFLOW": 5000, "S3": 8333}
LOOK_EVERY_S = 2.0


def main() -> int:
    """Start everything, wait for Ctrl-C, SIGTERM, or the end of any service, and end everything.

    Returns:
        0 after Ctrl-C or SIGTERM, 1 where a service ended by itself.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    folder = Path(os.environ.get("CRRG_PLATFORM_DIR", "crrg-platform")).absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    services: list[Service] = []
    try:
        env = start_all(folder, services)
        (folder / "env.sh").write_text(exports(env))
        (folder / "env.sh").chmod(0o600)
        logger.info(welcome(services, folder))
        return wait_for_end(services)
    except KeyboardInterrupt:
        return 0
    finally:
        end_all(services)


def start_all(folder: Path, services: list[Service]) -> dict[str, str]:
    """Start the services in order, each into ``services`` as soon as it runs; return the variables of clients."""
    keys = read_secrets(folder)
    env = {"CRRG_ROOT": ROOT, "CRRG_INBOX": INBOX, "CRRG_HMAC_KEY": keys["hmac_key"]}
    for start in (_start_store, _start_tracking, _start_orchestrator):
        services.append(start(folder, env, keys))
        env |= services[-1].env
        logger.info("%s answers at %s", services[-1].name, services[-1].url)
    logger.info("registering the deployments")
    bootstrap = [sys.executable, "-m", "deployments.bootstrap"]
    subprocess.run(bootstrap, cwd=CHECKOUT, env={**os.environ, **PREFECT_ENV, **env}, check=True, capture_output=True)
    deploy_all(env)
    services.append(start_worker(folder, pool="local", env=env))
    services.append(start_worker(folder, pool="night", env=env, limit=1))
    if os.environ.get("CRRG_IDENTIFIED_ROOT"):
        zone = {name: os.environ[name] for name in IDENTIFIED_ENV if name in os.environ}
        services.append(start_worker(folder, pool="deliver", env={**env, **zone}, limit=1))
    return env


def _start_store(folder: Path, _env: Mapping[str, str], keys: Mapping[str, str]) -> Service:
    return start_object_store(
        folder / "s3",
        access_key=keys["access_key"],
        secret_key=keys["secret_key"],
        bucket=BUCKET,
        s3_port=port("S3"),
    )


def _start_tracking(folder: Path, _env: Mapping[str, str], _keys: Mapping[str, str]) -> Service:
    return start_mlflow(folder / "mlflow", port=port("MLFLOW"))


def _start_orchestrator(folder: Path, _env: Mapping[str, str], _keys: Mapping[str, str]) -> Service:
    return start_prefect_server(folder / "prefect", port=port("PREFECT"))


def wait_for_end(services: list[Service]) -> int:
    """Wait for a service that ends by itself; a signal ends the waiting."""
    while True:
        for service in services:
            if service.process.poll() is not None:
                logger.error("%s ended with code %s:\n%s", service.name, service.process.returncode, service.log_tail())
                return 1
        time.sleep(LOOK_EVERY_S)


def end_all(services: list[Service]) -> None:
    """End every service, last started first; the object store at once, since it takes long to end politely."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for service in reversed(services):
        service.stop(0 if service.name == "object-store" else 8)
    for child in psutil.Process().children():  # a service that a signal met between its birth and its place in the list
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    logger.info("all services have ended")


def _interrupt(*_: object) -> NoReturn:
    logger.info("ending all services")
    raise KeyboardInterrupt


def read_secrets(folder: Path) -> dict[str, str]:
    """Return the platform's own secrets, made at the first start and readable by their owner only."""
    path = folder / "secrets.json"
    if not path.exists():
        made = {name: secrets.token_hex(20) for name in ("access_key", "secret_key")}
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({**made, "hmac_key": secrets.token_hex(32)}, file)
    found: dict[str, str] = json.loads(path.read_text())
    return found


def port(name: str) -> int:
    """Return the wished port of a service: ``CRRG_<NAME>_PORT`` or its usual one; a taken one is replaced."""
    return int(os.environ.get(f"CRRG_{name}_PORT", PORTS[name]))


def exports(env: Mapping[str, str]) -> str:
    """Return variables as a shell reads them."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(env.items()))


def welcome(services: list[Service], folder: Path) -> str:
    """Return the addresses and the first steps."""
    urls = {service.name: service.url for service in services if service.url}
    delivers = any(service.name == "worker-deliver" for service in services)
    delivery = "on, by a worker of its own" if delivers else "off: no worker; CRRG_IDENTIFIED_ROOT switches it on"
    return f"""
CRRG-CLIP is up. Ctrl-C ends all of it; data stay in {folder}.

  Prefect   {urls["prefect-server"]}   deployments, forms, runs
  MLflow    {urls["mlflow"]}   models, aliases, and runs once "Model training" is chosen at the top left
  S3        {urls["object-store"]}   root {ROOT}, inbox {INBOX}
  Delivery  {delivery}

In another shell:

  source {shlex.quote(str(folder / "env.sh"))}
  .venv/bin/crrg phantom s3://{BUCKET}/drawn --studies 200
  .venv/bin/prefect deployment run ingest/local -p config='{{"source": ["s3://{BUCKET}/drawn"], "dataset": "drawn"}}'
  .venv/bin/prefect deployment run retrain/local -p config='{{"dataset": "drawn"}}'
"""


if __name__ == "__main__":
    sys.exit(main())
