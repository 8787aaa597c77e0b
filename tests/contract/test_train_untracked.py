"""A tracking server that is away when a stage is finished: the stage counts, its audit entry is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crrg.config.base import Settings
from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import TrainStageConfig
from crrg.errors import DeviceError, StorageError
from crrg.ledger.audit import read_audit
from crrg.operations import spool
from crrg.operations.training import train
from crrg.storage import Storage
from crrg.tracking import models, runs
from crrg.tracking.client import mlflow_client
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

    def denied(*_: object) -> int:
        raise StorageError("access denied", "s3://data/spool/runs")

    monkeypatch.setattr(train, "open_tracker", tracked)
    monkeypatch.setattr(train, "ModelRegistry", NoRegistry)
    monkeypatch.setattr(train, "send_waiting", denied)  # whoever trains may put there, not read
    dataset = DatasetRef(name="d", version="d1", manifest_key="m", num_rows={"train": 3})
    form = TrainStageConfig(dataset="d", device="cpu")
    with pytest.raises(StorageError, match="does not answer"):
        train.train_here("detector", form, dataset, {}, storage, Settings(root=storage.root), {})
    (entry,) = read_audit(storage)
    assert (entry.action, entry.subject) == ("train", "checkpoints/detector/01")


def test_figures_that_a_real_server_did_not_take_go_into_its_run_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, settings = Storage(str(tmp_path)), Settings(root=str(tmp_path))
    away: list[str] = []

    def reach(call: Callable[[], Any], what: str = "") -> Any:
        if away:
            raise StorageError("the tracking server does not answer", "MLFLOW_TRACKING_URI", retryable=True)
        return reached(call, what)

    def fit(_stage: str, _config: Any, _dataset: Any, _finished: Any, root: Storage, tracker: Tracker) -> StageResult:
        tracker.log_metrics({"train/loss": 2.0}, step=1)
        away.append("now")
        tracker.log_metrics({"train/loss": 1.0}, step=2)
        tracker.log_text("samples.md", "a sample")
        return stand_in_stage(root, "detector").model_copy(update={"run_id": tracker.run_id})

    reached = runs.reach
    for module in (runs, models):
        monkeypatch.setattr(module, "reach", reach)
    monkeypatch.setattr(train, "fit_stage", fit)
    dataset = DatasetRef(name="d", version="d1", manifest_key="m", num_rows={"train": 3})
    form = TrainStageConfig(dataset="d", device="cpu", seed=7)
    with pytest.raises(StorageError, match="does not answer"):
        train.train_here("detector", form, dataset, {}, storage, settings, {})
    (waiting,) = storage.list_objects(spool.PREFIX)
    run_id = storage.get_json(waiting.key)["run_id"]
    with pytest.raises(StorageError, match="does not answer"):
        train.train_here("detector", form, dataset, {}, storage, settings, {})

    away.clear()
    assert spool.send_waiting(storage, settings) == 1
    client = mlflow_client(settings, storage)
    run = client.get_run(run_id)
    assert [(each.step, each.value) for each in client.get_metric_history(run_id, "train/loss")] == [(1, 2.0), (2, 1.0)]
    assert run.data.params["form.seed"] == "7"
    assert run.info.status == "FINISHED"
    assert storage.list_objects(spool.PREFIX) == []


@pytest.mark.parametrize("end", [SystemExit(143), DeviceError("the device has failed", "cuda")])
def test_figures_of_a_training_that_ends_while_the_server_is_away_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    storage = Storage(str(tmp_path))

    def fit(*given: Any) -> StageResult:
        for step in range(3):
            given[-1].log_metrics({"train/loss": 1.0}, step=step)
        monkeypatch.setattr(Gone, "log_metrics", lambda *_, **__: pytest.fail("asked again"))
        raise end

    @contextmanager
    def tracked(*_: object) -> Iterator[Gone]:
        yield Gone()

    monkeypatch.setattr(train, "fit_stage", fit)
    monkeypatch.setattr(train, "open_tracker", tracked)
    dataset = DatasetRef(name="d", version="d1", manifest_key="m", num_rows={"train": 3})
    form = TrainStageConfig(dataset="d", device="cpu")
    with pytest.raises(type(end)):
        train.train_here("detector", form, dataset, {}, storage, Settings(root=storage.root), {})
    (waiting,) = storage.list_objects(spool.PREFIX)
    assert [step for step, _ in storage.get_json(waiting.key)["curves"]] == [1, 2]


def test_figures_of_a_run_that_was_deleted_on_its_server_go_into_one_of_their_own(tmp_path: Path) -> None:
    storage, settings = Storage(str(tmp_path)), Settings(root=str(tmp_path))
    with runs.open_tracker(settings, storage, "train-detector", "detector") as tracker:
        tracker.log_metrics({"train/loss": 2.0}, step=1)
    client = mlflow_client(settings, storage)
    client.delete_run(tracker.run_id)
    begun = spool.TrackedRun(experiment="train-detector", run_name="detector", run_id=tracker.run_id)
    spool.keep_figures(begun, [("log_metrics", {"metrics": {"train/loss": 1.0}, "step": 2})], storage)

    assert spool.send_waiting(storage, settings) == 1
    (found,) = client.search_runs([client.get_run(tracker.run_id).info.experiment_id])
    assert found.info.run_id != tracker.run_id
    assert (found.info.run_name, found.data.metrics) == ("detector", {"train/loss": 1.0})
    assert storage.list_objects(spool.PREFIX) == []
