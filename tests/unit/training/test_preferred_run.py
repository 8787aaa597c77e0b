"""The run of the generator that learns preferred wordings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import TrainStageConfig
from crrg.storage import Storage
from crrg.training import preferred
from crrg.training.tracker import NullTracker


class Begun(Exception):
    """Nothing more of the stage is needed."""


class Params(NullTracker):
    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def log_params(self, params: Mapping[str, Any]) -> None:
        self.params |= params


def test_a_run_says_its_settings_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def seed(_: int) -> None:
        raise Begun

    monkeypatch.setattr(preferred, "seed_everything", seed)
    form, tracker = TrainStageConfig(device="cpu"), Params()
    stages = {name: StageResult.model_construct(sha256=name) for name in ("detector", "selector", "generator", "clip")}
    phrases = preferred.PreferredPhrases({}, "1", 2)
    dataset = DatasetRef.model_construct(name="drawn", version="7")
    with pytest.raises(Begun):
        preferred.train_preferred(form, dataset, stages, phrases, Storage(str(tmp_path)), tracker)
    assert tracker.params["stage"] == preferred.STAGE
    assert tracker.params["dataset_version"] == "7"
    assert tracker.params["round"] == 2
    assert tracker.params["loop"]["num_steps"] == form.rounds.generator_steps
