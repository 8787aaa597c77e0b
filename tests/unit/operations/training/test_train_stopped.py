"""An operator's stop between the stages of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crrg.config.base import Settings
from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import TrainStageConfig
from crrg.errors import CrrgError
from crrg.operations.stop import STOP_KEY
from crrg.operations.training import train
from crrg.storage import Storage
from tests.support.stand_in_bundle import stand_in_stage


def test_no_further_stage_is_begun_and_the_finished_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path))
    trained: list[str] = []

    def train_here(stage: str, _config: Any, _dataset: Any, _finished: Any, root: Storage, *_: object) -> StageResult:
        trained.append(stage)
        root.put(STOP_KEY, b"")
        return stand_in_stage(root, "detector")

    dataset = DatasetRef(name="d", version="d1", manifest_key="m", num_rows={"train": 3})
    monkeypatch.setattr(train, "train_here", train_here)
    monkeypatch.setattr(train, "resolve_dataset", lambda *_: dataset)
    form, settings = TrainStageConfig(dataset="d", device="cpu"), Settings(root=storage.root)
    with pytest.raises(CrrgError, match=r"control/STOP: stopped by an operator, finished stages are kept"):
        train.train_stages(("detector", "selector"), form, storage, settings)
    assert trained == ["detector"]
    storage.delete(STOP_KEY)
    train.train_stages(("detector",), form, storage, settings)
    assert trained == ["detector", "detector"]
