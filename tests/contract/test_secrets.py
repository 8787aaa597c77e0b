"""Secrets are no part of any form, parameter, tracked setting or argument list."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import BaseModel, SecretStr

from crrg.config.base import OTHER_SECRETS, Settings
from crrg.storage import Storage
from crrg.tracking.runs import open_tracker
from tests.support.canaries import find_markers
from tests.support.commands import every_command
from tests.support.drawn_night import fill_inbox
from tests.support.flow_forms import FORMS

SECRET_NAME = re.compile(r"(?i)secret|passw|token(?!iz)|api_?key|access_?key|hmac|credential|authorization")
MARK = "CANARY"
CANARIES = {
    "AWS_ACCESS_KEY_ID": f"{MARK}-access-key-0123456789",
    "AWS_SECRET_ACCESS_KEY": f"{MARK}-secret-key-0123456789",
    "AWS_SESSION_TOKEN": f"{MARK}-session-token-0123456789",
    "CRRG_HMAC_KEY": f"{MARK}-hmac-key-of-9753186420-its-own",
    "CRRG_ARCHIVE_AUTHORIZATION": f"Bearer {MARK}-archive-0123456789",
    "PREFECT_API_AUTH_STRING": f"admin:{MARK}-prefect-0123456789",
    "MLFLOW_TRACKING_PASSWORD": f"{MARK}-mlflow-0123456789",
}


def parameters(form: type[BaseModel]) -> dict[str, Any]:
    schema = form.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return {name: value for part in parts for name, value in part.get("properties", {}).items()}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_no_form_asks_for_a_secret(form: type[BaseModel]) -> None:
    found = parameters(form)
    assert found
    asked = {name for name, value in found.items() if SECRET_NAME.search(name) and value.get("type") != "boolean"}
    assert asked <= {"max_tokens"}, "the length of a phrase is no secret"
    assert [name for name, value in found.items() if value.get("format") == "password"] == []


def test_every_secret_of_the_settings_is_masked() -> None:
    named = {name for name in Settings.model_fields if SECRET_NAME.search(name)} - {
        "hmac_key_file",
        "old_hmac_key_file",
    }
    masked = {name for name, field in Settings.model_fields.items() if field.annotation is SecretStr}
    assert named
    assert named <= masked
    assert {"PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_PASSWORD"} <= set(OTHER_SECRETS)


def test_no_command_takes_a_secret_as_a_flag() -> None:
    commands = list(every_command())
    assert {"audit", "verify", "show"} <= {command.name for command in commands}, "those of groups too"
    options = [option for command in commands for option in command.params]
    assert len(options) > 50
    taking = {flag for option in options if not getattr(option, "is_flag", False) for flag in option.opts}
    assert [flag for flag in taking if SECRET_NAME.search(flag)] == []


def test_a_flow_takes_one_form_and_nothing_else() -> None:
    import flows.deliver
    import flows.ingest
    import flows.nightly

    for flow in (flows.deliver.deliver, flows.ingest.ingest, flows.nightly.nightly):
        assert list(inspect.signature(flow.fn).parameters) == ["config"]


def test_what_is_tracked_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    root = Storage(str(tmp_path / "root"))
    settings = Settings(root=root.root)
    with open_tracker(settings, root, "train-clip", "canary") as tracker:
        tracker.log_params({"settings": settings.model_dump(mode="json"), "as_text": str(settings)})
    written = b"".join(path.read_bytes() for path in Path(root.root).rglob("*") if path.is_file())
    assert b"as_text" in written
    assert MARK.encode() not in written
    assert find_markers(Path(root.root)) == []


def test_no_process_of_a_night_shows_a_secret(tmp_path: Path) -> None:
    inbox = Storage(str(tmp_path / "inbox"))
    fill_inbox(inbox, 4)
    command = [sys.executable, "-m", "tests.support.drawn_night", inbox.root, str(tmp_path / "root"), "0.5"]
    checkout = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [*command, str(tmp_path / "started")],
        env={**os.environ, **CANARIES, "PYTHONPATH": checkout},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    seen: dict[int, str] = {}
    while process.poll() is None:
        for each in [psutil.Process(process.pid), *_children(process.pid)]:
            try:
                seen[each.pid] = " ".join(each.cmdline())
            except psutil.Error:
                continue
        time.sleep(0.05)
    assert process.stdout is not None
    said = process.stdout.read().decode()
    assert process.returncode == 0, said
    assert len(seen) >= 2  # the night and a decoder
    assert not [line for line in seen.values() if MARK in line]
    assert MARK not in said


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
