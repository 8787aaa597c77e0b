"""``crrg status``: nights are shown whatever becomes of the question what the orchestrator has not finished."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

import crrg
from crrg.cli import app
from crrg.cli.running import find_program


def run_status(root: Path) -> str:
    done = CliRunner().invoke(app, ["status", "--root", str(root)])
    assert done.exit_code == 0, done.output
    return done.output


def test_without_an_orchestrator_it_says_which_setting_names_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert "No night yet." in (said := run_status(tmp_path))
    assert "PREFECT_API_URL is not set" in said


def test_an_installed_library_without_checkout_shows_its_nights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr(crrg, "__file__", str(tmp_path / "site-packages" / "crrg" / "__init__.py"))
    assert "No night yet." in (said := run_status(tmp_path))
    assert "only from a checkout of the project" in said


def test_a_server_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free.getsockname()[1]}/api")
    assert "No night yet." in (said := run_status(tmp_path))
    assert "The orchestrator does not answer" in said


def test_a_server_that_the_file_names_is_asked_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "crrg.toml").write_text('prefect_api_url = "http://127.0.0.1:9/api"\n')
    program = find_program("flows.waiting")
    assert program is not None
    assert program[1]["PREFECT_API_URL"] == "http://127.0.0.1:9/api"
    assert "The orchestrator does not answer" in run_status(tmp_path)
