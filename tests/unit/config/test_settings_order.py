"""The order in which settings win: variables, the TOML file, flags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crrg.cli.running import use_root
from crrg.config.base import Settings


@pytest.fixture(autouse=True)
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRRG_ROOT", "/of/the/variable")
    monkeypatch.setenv("CRRG_PRINCIPAL", "variable")


def test_a_variable_wins_over_what_is_built_in() -> None:
    assert Settings().root == "/of/the/variable"


def test_the_file_wins_over_variables_where_it_says_something(tmp_path: Path) -> None:
    (tmp_path / "crrg.toml").write_text('root = "/of/the/file"\n')
    settings = Settings()
    assert settings.root == "/of/the/file"
    assert settings.principal == "variable"


def test_a_flag_wins_over_both_here_and_in_children(tmp_path: Path) -> None:
    (tmp_path / "crrg.toml").write_text('root = "/of/the/file"\nprincipal = "file"\n')
    use_root("s3://of-the-flag/crrg")
    assert (Settings().root, Settings().principal) == ("s3://of-the-flag/crrg", "file")
    script = "import json; from crrg.config.base import Settings; print(json.dumps(Settings().root))"
    child = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert json.loads(child.stdout) == "s3://of-the-flag/crrg"


def test_no_flag_leaves_the_others(tmp_path: Path) -> None:
    use_root("")
    assert Settings().root == "/of/the/variable"
