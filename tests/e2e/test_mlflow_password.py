"""The tracking server of the compose file does not start with the password that older versions shipped, or without."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from deployments.services import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SHIPPED_ONCE = "password1234"
REFUSALS = {SHIPPED_ONCE: "Refusing to use the insecure default password", "": "ships no default admin password"}


@pytest.mark.parametrize("password", REFUSALS)
def test_the_default_administrator_is_refused(checkout: Path, tmp_path: Path, password: str) -> None:
    service = yaml.safe_load((checkout / "deployments/compose.yaml").read_text())["services"]["mlflow"]
    assert service["environment"]["MLFLOW_AUTH_ADMIN_PASSWORD"].startswith("${MLFLOW_ADMIN_PASSWORD:?")
    port = free_port()
    replaced = ("--host=", "--port=", "--allowed-hosts=", "--backend-store-uri=", "--artifacts-destination=")
    command = [part for part in service["command"] if not part.startswith(replaced)]
    own = [f"--port={port}", "--host=127.0.0.1", f"--backend-store-uri=sqlite:///{tmp_path}/mlflow.db"]
    env = {"MLFLOW_AUTH_ADMIN_USERNAME": "admin", "MLFLOW_AUTH_ADMIN_PASSWORD": password}
    with subprocess.Popen(
        [sys.executable, "-m", *command, *own, f"--artifacts-destination={tmp_path}/artifacts"],
        cwd=tmp_path,
        env={**os.environ, **env, "MLFLOW_FLASK_SERVER_SECRET_KEY": "k" * 32, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        limit = threading.Timer(240, server.kill)
        limit.start()
        try:
            said = next((line for line in server.stdout if any(words in line for words in REFUSALS.values())), "")
            with pytest.raises(urllib.error.URLError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
        finally:
            limit.cancel()
            os.killpg(server.pid, signal.SIGKILL)
            server.stdout.close()
    assert REFUSALS[password] in said
