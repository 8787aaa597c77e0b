"""Names of files that are no text are shown escaped, and end no command."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crrg.cli import running
from crrg.cli.main import app
from crrg.cli.running import printable
from tests.support.drawn_night import png_bytes
from tests.support.keys import KEY


def test_outcomes_of_a_name_that_is_no_text_are_written_and_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    monkeypatch.setenv("CRRG_ROOT", str(tmp_path / "root"))
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "caf\udce9.png").write_bytes(png_bytes(1))
    table = tmp_path / "outcomes.csv"
    done = CliRunner().invoke(app, ["outcomes", "--inbox", str(inbox), "--csv", str(table)])
    assert done.exit_code == 0
    assert "caf\\udce9.png,pending," in table.read_text(encoding="utf-8")
    done = CliRunner().invoke(app, ["outcomes", "--inbox", str(inbox)])
    assert done.exit_code == 0
    assert "caf\\udce9.png,pending," in done.output


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", "Jos\u00e9 \\udce9"), ("latin-1", "Jos\u00e9 \\udce9"), ("ascii", "Jos\\xe9 \\udce9")],
)
def test_what_a_terminal_cannot_show_is_escaped(monkeypatch: pytest.MonkeyPatch, encoding: str, expected: str):
    monkeypatch.setattr(running.sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert printable("Jos\u00e9 \udce9") == expected
