"""The contracts of import-linter speak of every room, also of those that come later."""

from __future__ import annotations

import tomllib
from pathlib import Path


def test_every_room_but_tracking_is_kept_from_mlflow(checkout: Path) -> None:
    settings = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = [each for each in settings["contracts"] if each["name"] == "only tracking knows mlflow"]
    inside = {f"crrg.{path.stem}" for path in (checkout / "crrg").iterdir() if not path.stem.startswith("__")}
    assert {*contract["source_modules"]} == (inside | {*settings["root_packages"]}) - {"crrg", "crrg.tracking"}
