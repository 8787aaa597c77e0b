"""What a flow has done stays done where the Prefect server does not take its page."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import httpx
import pytest
from prefect import Task

from crrg.config.data import IngestConfig
from crrg.config.running import DeliverConfig, EvaluateConfig, GroundConfig, PromoteConfig, RetrainConfig
from crrg.config.training import TrainStageConfig
from flows import pages

DONE = object()
FORMS = {
    "ingest": IngestConfig(source="archive"),
    "retrain": RetrainConfig(),
    "promote": PromoteConfig(version="1"),
    "deliver": DeliverConfig(inbox="inbox"),
    "ground": GroundConfig(),
    "evaluate": EvaluateConfig(),
    **{f"train_{stage}": TrainStageConfig() for stage in ("detector", "selector", "generator", "clip", "joint")},
}


def without_its_work(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Let a flow's tasks do nothing and its page be empty."""
    for name, value in list(vars(module).items()):
        if isinstance(value, Task) or name in ("run_stage", "evaluation_form", "RetrainResult"):
            monkeypatch.setattr(module, name, lambda *_, **__: DONE)
        elif name.endswith("_markdown"):
            monkeypatch.setattr(module, name, lambda *_: "page")
    return module


@pytest.mark.parametrize("name", FORMS)
def test_a_flow_whose_page_is_not_taken_has_done_its_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    asked: list[str] = []

    def refuse(_: str, key: str) -> None:
        asked.append(key)
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(pages, "create_markdown_artifact", refuse)
    module: Any = without_its_work(importlib.import_module(f"flows.{name}"), monkeypatch)
    monkeypatch.setattr(module, "pin_version", lambda config: config, raising=False)
    assert vars(module)[name].fn(FORMS[name]) is DONE
    assert asked == [name.replace("_", "-")]
    assert f"the Prefect server did not take the page {asked[0]} (ConnectError); the run continues" in caplog.text
