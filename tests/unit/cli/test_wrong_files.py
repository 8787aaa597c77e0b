"""Files and variables that a command is given and cannot use: one line that names them, exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from crrg.cli import app
from flows import __main__ as entry

KEY = "k" * 64


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.stderr


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    monkeypatch.setenv("CRRG_ROOT", str(tmp_path / "root"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("name", "text"), [("form.json", "[1]"), ("form.json", '"night"'), ("form.toml", "limit = ")])
def test_a_form_that_holds_no_settings(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert name in refused("nightly", "--inbox", str(tmp_path), "--config", name)


def test_a_settings_file_that_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "crrg.toml").write_text("root = ")
    assert "crrg.toml" in refused("digest")


def test_a_list_of_studies_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "ids").write_bytes(b"\xff\xfe\x00")
    assert "one id in each line" in refused("nightly", "--inbox", str(tmp_path), "--reread-studies", "ids")


def test_a_table_of_outcomes_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    assert "in a folder that is there" in refused("outcomes", "--inbox", "inbox", "--csv", "nowhere/table.csv")


def test_a_wrong_variable_of_a_flow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CRRG_S3_SSE", "x")
    with pytest.raises(SystemExit) as ended:
        entry.main("nightly", '{"inbox": "inbox"}')
    assert ended.value.code == 2
    assert "sse" in capsys.readouterr().err.lower()
