"""`crrg status` shows what the orchestrator has not finished, and says where it does not answer."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Scheduled

from deployments.services import Service

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CRRG = Path(sys.executable).with_name("crrg")


@flow(name="of-the-queue")
def waits_for_tomorrow() -> None:
    """Do nothing; its run is only announced."""


def status(root: Path) -> str:
    done = subprocess.run([CRRG, "status", "--root", str(root)], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_that_waits_is_shown_with_the_time_it_is_due(
    prefect_server: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.env["PREFECT_API_URL"])
    due = datetime.now(UTC) + timedelta(hours=5)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(waits_for_tomorrow, name="the-one-that-waits", state=Scheduled(scheduled_time=due))
        shown = [line for line in status(tmp_path).splitlines() if "the-one-that-waits" in line]
        client.delete_flow_run(run.id)
    assert len(shown) == 1, status(tmp_path)
    assert [cell.strip() for cell in shown[0].strip("|").split("|")] == [
        "of-the-queue", "the-one-that-waits", "Scheduled", "", f"{due:%Y-%m-%d %H:%M}",
    ]  # fmt: skip
    assert "the-one-that-waits" not in status(tmp_path)


def test_an_orchestrator_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert "The orchestrator does not answer" in status(tmp_path)


def test_without_an_address_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert "PREFECT_API_URL is not set" in status(tmp_path)
