"""Files and variables that a command is given and cannot use: one line that names them, exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from crrg.cli import app
from tests.support.keys import KEY


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


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("form.json", b"[1]", "it is a list"),
        ("form.json", b'"night"', "it is a str"),
        ("form.json", b'{\n "limit": }', "line 2 column 11"),
        ("form.JSON", b"{,", "as JSON"),
        ("form.toml", b"limit = ", "at end of document"),
        ("form.toml", b"limit = 1\nlimit = 2\n", "line 2"),
        ("form.yaml", b"limit: 3\n", "a form is TOML, or JSON where its name ends with .json"),
        ("form.toml", b"\xff\xfe", "as TOML"),
        ("form.json", b"[" * 100_000, "as JSON"),
    ],
)
def test_a_form_that_holds_no_settings(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    shown = refused("nightly", "--inbox", str(tmp_path), "--config", name)
    assert shown.startswith(f"crrg: ConfigError: {name}: ")
    assert said in shown


def test_a_form_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    assert "nowhere.toml: cannot be read (No such file" in refused("evaluate", "--config", "nowhere.toml")
    (tmp_path / "folder").mkdir()
    assert "folder: cannot be read (Is a directory)" in refused("evaluate", "--config", "folder")


def test_a_settings_file_that_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "crrg.toml").write_text("root = ")
    assert "crrg.toml" in refused("digest")


def test_a_list_of_studies_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "ids").write_bytes(b"\xff\xfe\x00")
    assert "one id per line" in refused("nightly", "--inbox", str(tmp_path), "--reread-studies", "ids")


def test_a_table_of_outcomes_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    assert "in an existing folder" in refused("outcomes", "--inbox", "inbox", "--csv", "nowhere/table.csv")
