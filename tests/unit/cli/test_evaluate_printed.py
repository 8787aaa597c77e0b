"""``crrg evaluate`` prints its scorecard, and last where the whole of it lies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from crrg.cli import app
from crrg.operations.scoring import evaluate as operation


def test_an_evaluation_says_last_where_its_scorecard_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = "models/scorecards/b/chest-1-test.json"
    monkeypatch.setattr(operation, "evaluate", lambda *_: SimpleNamespace(scorecard_key=key))
    monkeypatch.setattr(operation, "read_scorecard", lambda *_: SimpleNamespace(to_markdown=lambda: "# Scorecard"))
    done = CliRunner().invoke(app, ["evaluate", "--dataset", "chest", "--root", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == ["# Scorecard", "", f"Whole scorecard: `{key}`"]
