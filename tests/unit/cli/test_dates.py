"""Dates that are none are refused wherever one may be given: exit code 2 and how to write it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crrg.cli import app
from crrg.config.dates import check_date
from crrg.config.running import DeliverConfig, NightlyConfig
from crrg.errors import ConfigError

NONE = (
    "2026-11-9",
    "2026-02-30",
    "20261109",
    "2026-W46-1",
    "09.11.2026",
    "2026-11-09T00:00",
    "yesterday",
    "٢٠٢٦-١١-٠٩",
)
TAKEN = (
    ("check", "--date"),
    ("digest", "--date"),
    ("audit", "show", "--date"),
    ("nightly", "--inbox", "s3://inbox", "--date"),
    ("nightly", "--inbox", "s3://inbox", "--reread-date"),
    ("deliver", "--inbox", "s3://inbox", "--date"),
)


@pytest.mark.parametrize("command", TAKEN, ids=lambda command: " ".join((command[0], command[-1])))
def test_a_command_refuses_what_is_no_day(command: tuple[str, ...], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CRRG_ROOT", str(tmp_path))
    for text in NONE:
        done = CliRunner().invoke(app, [*command, text])
        assert done.exit_code == 2, f"{text}: {done.output}"
        (said,) = done.stderr.splitlines()
        assert said.startswith("crrg: ")
        assert f"{command[-1].removeprefix('--').replace('-', '_')}: " in said
        assert "write it like 2026-11-09" in said


@pytest.mark.parametrize("command", ["check", "digest"])
def test_a_day_without_a_night_is_no_error(command: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [command, "--date", "2024-02-29", "--root", str(tmp_path)])
    assert done.exit_code == 0, done.output


def test_a_form_takes_a_day_or_none(tmp_path: Path) -> None:
    assert NightlyConfig(inbox="x", date="2024-02-29", reread_date="").date == "2024-02-29"
    assert DeliverConfig(inbox="x").date == ""
    (tmp_path / "form.json").write_text(json.dumps({"date": 20261109}))
    done = CliRunner().invoke(app, ["deliver", "--inbox", "x", "--config", str(tmp_path / "form.json")])
    assert (done.exit_code, "date" in done.stderr) == (2, True)


def test_what_is_checked_comes_back() -> None:
    assert check_date("2026-11-09", "date") == "2026-11-09"
    assert check_date("", "date") == ""
    with pytest.raises(ConfigError, match=r"^reread_date: .*'2026-13-01' is not a date"):
        check_date("2026-13-01", "reread_date")
