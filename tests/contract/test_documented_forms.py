"""Forms that documents show are taken by every command that they name beside them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from crrg.config.base import FrozenConfig
from crrg.config.bundling import BundleConfig
from crrg.config.resolved import check_settings
from crrg.config.running import NightlyConfig, RetrainConfig
from crrg.config.training import TrainStageConfig

ROOT = Path(__file__).parents[2]
FORMS: dict[str, type[FrozenConfig]] = {
    "train": TrainStageConfig, "retrain": RetrainConfig, "bundle": BundleConfig, "nightly": NightlyConfig,
}  # fmt: skip
GIVEN_BY_FLAGS: dict[str, dict[str, Any]] = {"bundle": {"parts": ["imported"]}, "nightly": {"inbox": "s3://inbox"}}
EXAMPLES = [
    (path, text, command.split())
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    for text in re.findall(r"```toml\n(.*?)```", path.read_text(), re.DOTALL)
    for command in re.findall(r"^# crrg (.*--config.*)$", text, re.MULTILINE)
]


def test_every_form_in_a_document_says_which_command_takes_it() -> None:
    shown = [text for path in (ROOT / "docs").rglob("*.md") for text in re.findall(r"```toml\n", path.read_text())]
    assert len(shown) >= 2
    assert {command[0] for _, _, command in EXAMPLES} >= {"train", "retrain"}
    assert len({text for _, text, _ in EXAMPLES}) == len(shown)


@pytest.mark.parametrize(
    ("path", "text", "command"), EXAMPLES, ids=lambda part: part.name if isinstance(part, Path) else ""
)
def test_a_form_in_a_document_is_taken(path: Path, text: str, command: list[str]) -> None:
    name = command[0]
    form = FORMS[name].model_validate({**GIVEN_BY_FLAGS.get(name, {}), **tomllib.loads(text)})
    if isinstance(form, TrainStageConfig):
        check_settings(["detector", "selector", "generator", command[1]], form)
    if isinstance(form, RetrainConfig):
        check_settings(form.stages(), form.stage_config())
