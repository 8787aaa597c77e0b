"""A tracking server that is away when a stage is finished: the stage counts, its audit entry is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crrg.config.base import Settings
from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import TrainStageConfig
from crrg.errors import StorageError
from crrg.ledger.audit import read_audit
from crrg.operations import train
from crrg.storage import Storage
from crrg.training.tracker import NullTracker, Tracker
from tests.support.stand_in_bundle import stand_in_stage


class Gone(NullTracker):
    """A run whose server goes away after what it began with."""

    num_logged = 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.num_logged += 1
        if self.num_logged > 1:
            raise StorageError("the tracking server does not answer", "MLFLOW_TRACKING_URI", retryable=True)


class NoRegistry:
    def __init__(self, *_: object) -> None:
        pass

    def register_stage(self, _result: StageResult) -> str:
        raise StorageError("the tracking server does not answer", "MLFLOW_TRACKING_URI", retryable=True)


def test_a_finished_stage_is_audited_though_it_cannot_be_registered_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path))

    def fit(_stage: str, _config: Any, _dataset: Any, _finished: Any, root: Storage, tracker: Tracker) -> StageResult:
        for step in range(3):
            tracker.log_metrics({"train/loss": 1.0}, step=step)
        return stand_in_stage(root, "detector")

    @contextmanager
    def tracked(*_: object) -> Iterator[Gone]:
        yield Gone()

    monkeypatch.setattr(train, "fit_stage", fit)
    monkeypatch.setattr(train, "open_tracker", tracked)
    monkeypatch.setattr(train, "ModelRegistry", NoRegistry)
    dataset = DatasetRef(name="d", version="d1", manifest_key="m", num_rows={"train": 3})
    form = TrainStageConfig(dataset="d", device="cpu")
    with pytest.raises(StorageError, match="does not answer"):
        train.train_here("detector", form, dataset, {}, storage, Settings(root=storage.root), {})
    (entry,) = read_audit(storage)
    assert (entry.action, entry.subject) == ("train", "checkpoints/detector/01")
