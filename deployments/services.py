"""Start and end the services of the local platform as child processes, all on loopback.

``make up`` and the end-to-end tests use the same functions, so what the tests prove is what a user starts. This module
knows processes, ports and environment variables; it does not know flows or the library.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crrg.cli.running import PREFECT_QUIET_ENV

logger = logging.getLogger(__name__)

CHECKOUT = Path(__file__).resolve().parents[1]
LEASE_STORAGE = "prefect.server.concurrency.lease_storage.filesystem"
GRPC_DISTANCE = 10_000  # SeaweedFS opens gRPC that far above each of its ports
HIGHEST_PORT = 50_000

QUIET_ENV: dict[str, str] = {
    **PREFECT_QUIET_ENV,
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
"""Nothing on this platform reports to anybody."""

PREFECT_ENV: dict[str, str] = {
    **QUIET_ENV,
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASE_STORAGE,
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "crrg",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""Server and client settings that every Prefect process of ours gets.

Leases lie on disk: in memory, a restart of the server would crash every long training that holds a slot.
"""


IDENTIFIED_ENV = (
    "CRRG_IDENTIFIED_ROOT", "CRRG_IDENTIFIED_KMS_KEY_ID", "CRRG_ARCHIVES", "CRRG_ARCHIVE_AUTHORIZATION",
    "CRRG_ARCHIVE_CA_FILE", "CRRG_ARCHIVE_CERT_FILE",
)  # fmt: skip
"""What leads to the identified zone and to archives: no service takes it from our environment, the worker that delivers
is given it."""


@dataclass
class Service:
    """A child process and where it answers.

    Attributes:
        name: For messages.
        url: Address; empty where it answers nowhere.
        process: The child, leader of its own process group.
        log_path: Where its output goes.
        env: Variables that clients of this service need.
    """

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log_path: Path
    env: dict[str, str] = field(default_factory=dict)

    def stop(self, grace_s: float = 8.0) -> None:
        """End the process group: SIGTERM, then SIGKILL after ``grace_s`` seconds; 0 kills at once."""
        for number in (signal.SIGTERM, signal.SIGKILL) if grace_s else (signal.SIGKILL,):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=grace_s or 10.0)
        self.process.wait(timeout=10.0)

    def log_tail(self, num_lines: int = 30) -> str:
        """Return the last lines of the log."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-num_lines:])


def free_port(preferred: int = 0) -> int:
    """Return ``preferred`` if nothing listens there, else a free loopback port below 50,000."""
    for candidate in (preferred, *_random_ports()):
        if not candidate:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return candidate
    raise RuntimeError("no free port on loopback")


def _ports_beside(first: int, num_ports: int) -> list[int]:
    """Return free ports of which none is another's, or the first one's, port for gRPC."""
    found: list[int] = []
    while len(found) < num_ports:
        port = free_port()
        if all(abs(port - other) not in (0, GRPC_DISTANCE) for other in (first, *found)):
            found.append(port)
    return found


def start_object_store(
    folder: Path, *, access_key: str, secret_key: str, bucket: str, s3_port: int = 0, more_identities: bool = False
) -> Service:
    """Start SeaweedFS with one bucket and one administrator.

    Args:
        folder: Data and log folder.
        access_key: Key id of the administrator.
        secret_key: Secret of the administrator.
        bucket: Bucket to create.
        s3_port: Port of the S3 face; any free one if 0.
        more_identities: Whether the administrator may create identities with policies of their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    s3_port = free_port(s3_port)
    master, volume, filer = _ports_beside(s3_port, 3)
    flags = {
        "dir": folder / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "master.telemetry": "false",
        "master.port": master, "volume.port": volume, "filer.port": filer, "s3.port": s3_port,
        "s3.port.iceberg": 0, "s3.port.lance": 0, "webdav": "false", "admin.ui": "false",
        "s3.iam.readOnly": "false" if more_identities else "true",
    }  # fmt: skip
    command = [_binary("weed"), "mini", *(f"-{name}={value}" for name, value in flags.items())]
    credentials = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
    url = f"http://127.0.0.1:{s3_port}"
    client_env = {**credentials, "CRRG_S3_ENDPOINT": url, "AWS_REGION": "us-east-1"}
    service = _start("object-store", url, command, folder, {**credentials, "S3_BUCKET": bucket}, client_env)
    wait_until_up(service, url, timeout_s=60, any_status=True)
    return service


def start_mlflow(folder: Path, *, port: int = 0) -> Service:
    """Start an MLflow server on SQLite that passes artifacts through to a folder beside its database.

    Args:
        folder: Database and log folder.
        port: Port; any free one if 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port(port)
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder.absolute()}/mlflow.db",
        "--artifacts-destination", str(folder.absolute() / "artifacts"), "--serve-artifacts",
    ]  # fmt: skip
    service = _start("mlflow", url, command, folder, QUIET_ENV, {"MLFLOW_TRACKING_URI": url})
    wait_until_up(service, f"{url}/health", timeout_s=240)
    return service


def start_prefect_server(folder: Path, *, port: int = 0, public_url: str = "") -> Service:
    """Start a Prefect server on SQLite with leases on disk.

    Args:
        folder: Prefect home and log folder.
        port: Port; any free one if 0.
        public_url: Address by which people reach it; its own if not given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port(port)
    url = f"http://127.0.0.1:{port}"
    env = {
        **PREFECT_ENV,
        "PREFECT_HOME": str(folder.absolute()),
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_UI_API_URL": f"{public_url or url}/api",  # the pages would ask the default port otherwise
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    client_env = {**PREFECT_ENV, "PREFECT_HOME": str(folder.absolute()), "PREFECT_API_URL": f"{url}/api"}
    service = _start("prefect-server", url, command, folder, env, client_env)
    wait_until_up(service, f"{url}/api/health", timeout_s=240)
    return service


def start_worker(folder: Path, *, pool: str, env: Mapping[str, str], limit: int = 2) -> Service:
    """Start a Prefect worker that runs flows from this checkout.

    Args:
        folder: Log folder.
        pool: Work pool to poll; it must exist.
        env: Address of the server, root, credentials: everything that a flow run needs.
        limit: Flow runs at a time.
    """
    command = [
        sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--name", f"{pool}-worker",
        "--limit", str(limit),
    ]  # fmt: skip
    extra = {"PREFECT_WORKER_QUERY_SECONDS": "2", "PYTHONPATH": str(CHECKOUT)}
    return _start(f"worker-{pool}", "", command, folder, {**PREFECT_ENV, **extra, **env}, {})


def start_ray_node(folder: Path, *, head: Service | None = None, env: Mapping[str, str], num_cpus: int = 1) -> Service:
    """Start one node of a Ray cluster that runs tasks from this checkout.

    Args:
        folder: Log folder, and that of a head's sockets: its path must have fewer than 40 characters.
        head: The cluster's first node; without one a cluster is begun.
        env: What every task needs: root, secret, credentials.
        num_cpus: Shards at a time.

    Returns:
        The node; the ``url`` of a head is the address of its cluster, ``env`` the token that whoever connects needs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flags = ["--block", "--num-cpus", str(num_cpus), "--num-gpus", "0", "--disable-usage-stats"]
    address = head.url if head else f"127.0.0.1:{free_port()}"
    if head:
        flags += ["--address", address]
    else:
        flags += ["--head", "--port", address.rpartition(":")[2], "--ray-client-server-port", str(free_port())]
        flags += ["--include-dashboard", "false", "--temp-dir", str(folder / "ray")]
    token = head.env if head else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    extra = {"PYTHONPATH": str(CHECKOUT), "RAY_USAGE_STATS_ENABLED": "0", **token}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *flags]
    name = "ray-node" if head else "ray-head"
    service = _start(name, address, command, folder, {**PREFECT_ENV, **extra, **env}, dict(token))
    _wait_until_said(service, "Ray runtime started", timeout_s=120)
    return service


def deploy_all(env: Mapping[str, str]) -> None:
    """Register every deployment of ``prefect.yaml`` with the server that ``env`` names.

    Raises:
        RuntimeError: The deployment failed; the message carries the tool's output.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **PREFECT_ENV, **env}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"prefect deploy failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")


def _start(
    name: str, url: str, command: list[str], folder: Path, env: Mapping[str, str], client_env: dict[str, str]
) -> Service:
    log_path = folder / f"{name}.log"
    ours = {variable: value for variable, value in os.environ.items() if variable not in IDENTIFIED_ENV}
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**ours, **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Service(name, url, process, log_path, client_env)


def wait_until_up(service: Service, url: str, *, timeout_s: float, any_status: bool = False) -> None:
    """Return when a service answers; whatever else happens meanwhile ends it, so that nothing is left behind.

    Args:
        service: What was started.
        url: Where it is asked.
        timeout_s: How long it may take.
        any_status: Whether an error is an answer.

    Raises:
        RuntimeError: It ended, or did not answer in time.
    """
    try:
        deadline = time.monotonic() + timeout_s
        while not _answers(url, any_status=any_status):
            if service.process.poll() is not None:
                raise RuntimeError(f"{service.name} ended with code {service.process.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{service.name} did not answer at {url} within {timeout_s:.0f} s")
            time.sleep(0.2)
    except BaseException as error:
        service.stop(0)
        if isinstance(error, Exception):
            logger.error("the last lines of %s:\n%s", service.log_path, service.log_tail())
        raise


def _wait_until_said(service: Service, words: str, *, timeout_s: float) -> None:
    """Return when the service wrote these words; whatever else happens meanwhile ends it."""
    deadline = time.monotonic() + timeout_s
    while words not in service.log_tail():
        if service.process.poll() is not None or time.monotonic() > deadline:
            service.stop(0)
            logger.error("the last lines of %s:\n%s", service.log_path, service.log_tail())
            raise RuntimeError(f"{service.name} did not start")
        time.sleep(0.2)


def _answers(url: str, *, any_status: bool) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return any_status
    except OSError:
        return False


def _random_ports() -> list[int]:
    ports = []
    for _ in range(50):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        ports.append(port if port < HIGHEST_PORT else port - 20_000)
    return ports


def _binary(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise RuntimeError(f"{name} is not installed; install the development extra (make env)")
    return found
