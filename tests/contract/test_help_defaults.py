"""What a flag is where it is not given: the help of every command says what its form says."""

from __future__ import annotations

import pytest
import typer

from crrg.cli import app
from crrg.config.base import FrozenConfig
from crrg.config.bundling import BundleConfig
from crrg.config.data import IngestConfig
from crrg.config.running import DeliverConfig, DemoConfig, EvaluateConfig, GroundConfig, NightlyConfig, RetrainConfig
from crrg.config.training import TrainStageConfig
from crrg.config.watch import WatchSettings

FORMS: dict[str, type[FrozenConfig]] = {
    "demo": DemoConfig,
    "ingest": IngestConfig,
    "ground": GroundConfig,
    "train": TrainStageConfig,
    "retrain": RetrainConfig,
    "bundle": BundleConfig,
    "evaluate": EvaluateConfig,
    "nightly": NightlyConfig,
    "deliver": DeliverConfig,
}
FIELDS = {
    "studies": "num_studies", "fresh": "num_fresh_studies", "form_name": "forms", "called": "called_title",
    "calling": "calling_title",
}  # fmt: skip
"""Names of flags whose field is called otherwise."""


@pytest.mark.parametrize("name", FORMS)
def test_flags_say_their_defaults(name: str) -> None:
    fields = FORMS[name].model_fields
    wanted, said = {}, {}
    for flag in typer.main.get_command(app).commands[name].params:
        inner = WatchSettings.model_fields if flag.name in ("drift", "degenerate") else fields
        field = inner.get(FIELDS.get(flag.name, flag.name))
        value = field.default if field is not None and not flag.required else None
        value = ",".join(value) if isinstance(value, tuple) else value
        if value and isinstance(value, (str, int, float)):
            wanted[flag.name] = f"{value:g}" if isinstance(value, float) else str(value)
            said[flag.name] = flag.show_default
    assert said == wanted


def test_a_date_says_which_nights_are_meant_without_it() -> None:
    commands = typer.main.get_command(app).commands
    said = {
        name: flag.help.partition("; ")[2]
        for name, command in commands.items()
        for flag in command.params
        if flag.name == "date"
    }
    everywhere = dict.fromkeys(("deliver", "check", "digest"), "all nights if not given.")
    assert said == {"nightly": "today if not given.", **everywhere}
