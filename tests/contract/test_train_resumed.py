"""A training that is taken up again goes on in its tracked run: one curve, one duration, one set of settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crrg.config import presets
from crrg.config.base import Settings
from crrg.config.training import PresetTraining, TrainStageConfig
from crrg.operations.training import train
from crrg.storage import Storage
from crrg.tracking.client import mlflow_client
from crrg.training import clip, state_timer
from crrg.training.checkpoint import StageFolder
from crrg.training.tracker import NullTracker
from tests.support.drawn_bundle import draw_dataset
from tests.support.smallest_stages import smallest

NUM_STEPS, DIES_AT = 6, 4


class Killed(BaseException):
    """Stands for a process that ends in the middle."""


def with_loop(**changes: Any) -> PresetTraining:
    settings = smallest()
    loop = settings.clip.loop.model_copy(update={"num_steps": NUM_STEPS, "checkpoint_every_s": 1e-9, **changes})
    return settings.model_copy(update={"clip": settings.clip.model_copy(update={"loop": loop})})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    home = tmp_path_factory.mktemp("resumed")
    storage = Storage(str(home / "root"))
    draw_dataset(storage, home / "source", "drawn", 0.5, 0.25)
    return storage


def kill(root: Storage, monkeypatch: pytest.MonkeyPatch, seed: int) -> str:
    """Train until the process ends in the middle; return the tracked run."""
    monkeypatch.setitem(presets._PRESETS, "tiny", with_loop)
    monkeypatch.setattr(state_timer, "TIMES_APART", 0.0)
    make = clip.ClipBatches.make

    def dying(batches: clip.ClipBatches, number: int) -> Any:
        if number == DIES_AT:
            raise Killed
        return make(batches, number)

    with monkeypatch.context() as patch:
        patch.setattr(clip.ClipBatches, "make", dying)
        with pytest.raises(Killed):
            train_again(root, seed)
    (state, *_) = sorted(
        each.key for each in root.list_objects("checkpoints/clip") if each.key.endswith(f"state-{DIES_AT:08d}.json")
    )
    record = root.get_json(state)
    # as if it had trained for an hour, of which the second piece knows by this record alone
    root.put_json(state, {**record, "values": {**record["values"], "trained_s": 3600.0}})
    return str(record["run_id"])


def train_again(root: Storage, seed: int) -> Any:
    form = TrainStageConfig(dataset="drawn", device="cpu", seed=seed)
    return train.train_stage("clip", form, root, Settings(root=root.root))


def test_the_run_of_the_first_piece_is_gone_on_with(
    root: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run_id = kill(root, monkeypatch, seed=1)
    client = mlflow_client(Settings(root=root.root), root)
    assert client.get_run(run_id).info.status == "KILLED"
    # what says nothing of the outcome may be changed meanwhile, and the server refuses another value of a setting
    monkeypatch.setitem(presets._PRESETS, "tiny", lambda: with_loop(log_every=1))
    result = train_again(root, seed=1)
    assert result.run_id == run_id
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["config_hash"] == result.config_hash
    assert run.data.params["loop.log_every"] == "20"
    assert run.data.params["form.seed"] == "1"
    assert run.data.metrics["train/duration_s"] == pytest.approx(result.duration_s)
    assert 3600 < result.duration_s < 3629
    assert "clip: trained in 60 min" in caplog.text
    assert len(client.search_runs([run.info.experiment_id])) == 1


def test_a_run_that_its_server_has_lost_is_followed_by_a_new_one(
    root: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = kill(root, monkeypatch, seed=2)
    client = mlflow_client(Settings(root=root.root), root)
    client.delete_run(run_id)
    result = train_again(root, seed=2)
    assert result.run_id not in ("", run_id)
    assert client.get_run(result.run_id).data.tags["config_hash"] == result.config_hash
    assert client.get_run(run_id).info.lifecycle_stage == "deleted"


def test_a_record_that_names_no_run_begins_a_new_one(tmp_path: Path) -> None:
    begun: list[tuple[str, dict[str, str]]] = []

    class Noting(NullTracker):
        def begin(self, run_id: str, tags: Any) -> None:
            begun.append((run_id, dict(tags)))

    folder = StageFolder(Storage(str(tmp_path)), "line", "abc")
    folder.begin_run(Noting(), {})
    for written in (b'{"step": 3}', b"{", b'{"run_id": "r1"}'):
        Storage(str(tmp_path)).put(f"{folder.prefix}/state-00000003.json", written)
        folder.begin_run(Noting(), {})
    tags = {"config_hash": "abc"}
    assert begun == [("", tags), ("", tags), ("", tags), ("r1", tags)]
