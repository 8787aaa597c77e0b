"""What ``make up`` writes for other shells, in whatever folder it lies, and what it tells which worker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deployments import services as platform_services
from deployments import up
from deployments.services import IDENTIFIED_ENV, Service
from deployments.up import exports, welcome


def test_a_shell_reads_back_what_is_exported(tmp_path: Path) -> None:
    env = {"CRRG_ROOT": "s3://crrg/data", "PREFECT_HOME": "/home/o'brien/my films/prefect"}
    (tmp_path / "env.sh").write_text(exports(env))
    script = f'. {tmp_path}/env.sh; printf "%s\\n" "$CRRG_ROOT" "$PREFECT_HOME"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == list(env.values())


def test_the_first_step_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    folder.mkdir()
    (folder / "env.sh").write_text("echo read")
    services = [Service(name, "http://here", None, folder, {}) for name in ("prefect-server", "mlflow", "object-store")]  # type: ignore[arg-type]
    lines = welcome(services, folder).splitlines()
    (step,) = [line for line in lines if "env.sh" in line]
    assert subprocess.run(["bash", "-c", step], capture_output=True, text=True, check=True).stdout == "read\n"


@pytest.mark.parametrize("zone", ["", "s3://identified/drafts"])
def test_the_worker_that_delivers_alone_is_told_of_the_identified_zone(
    zone: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workers: dict[str, Mapping[str, str]] = {}

    def started(name: str) -> Service:
        return Service(name, "http://here", None, tmp_path, {})  # type: ignore[arg-type]

    def start_worker(_: Path, *, pool: str, env: Mapping[str, str], **__: Any) -> Service:
        workers[pool] = env
        return started(f"worker-{pool}")

    names = {"_start_store": "object-store", "_start_tracking": "mlflow", "_start_orchestrator": "prefect-server"}
    for function, name in names.items():
        monkeypatch.setattr(up, function, lambda *_, name=name: started(name))
    monkeypatch.setattr(up.subprocess, "run", lambda *_, **__: None)
    monkeypatch.setattr(up, "deploy_all", lambda _: None)
    monkeypatch.setattr(up, "start_worker", start_worker)
    monkeypatch.setenv("CRRG_IDENTIFIED_ROOT", zone)
    monkeypatch.setenv("CRRG_ARCHIVE_AUTHORIZATION", "Bearer of-the-archive")
    services: list[Service] = []
    shared = up.start_all(tmp_path, services)
    assert list(workers) == ["local", "night", *(["deliver"] if zone else [])]
    assert not {*shared, *workers["local"], *workers["night"]} & {*IDENTIFIED_ENV}
    assert ("Delivery  on" in welcome(services, tmp_path)) == bool(zone)
    if zone:
        assert workers["deliver"]["CRRG_IDENTIFIED_ROOT"] == zone
        assert workers["deliver"]["CRRG_ARCHIVE_AUTHORIZATION"] == "Bearer of-the-archive"


def test_no_service_takes_the_identified_zone_from_our_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in IDENTIFIED_ENV:
        monkeypatch.setenv(name, "ours")
    command = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    given = {"CRRG_IDENTIFIED_ROOT": "s3://identified/drafts"}
    for name, env in (("plain", {}), ("delivers", given)):
        service = platform_services._start(name, "", command, tmp_path, env, {})
        service.process.wait(timeout=30)
        found = json.loads(service.log_tail())
        assert {each: found[each] for each in IDENTIFIED_ENV if each in found} == env
