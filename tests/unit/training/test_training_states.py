"""States of a training: damaged ones, those of other networks, and what a kill leaves of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crrg import local_files
from crrg.config.training import LoopConfig
from crrg.errors import StorageError, TrainingError
from crrg.storage import Storage
from crrg.training import checkpoint
from crrg.training.checkpoint import StageFolder
from crrg.training.loop import fit
from crrg.training.tracker import NullTracker
from tests.support.trained_line import CPU, Interrupted, batch_at, run


def test_a_damaged_state_falls_back_to_the_one_before(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    run(tmp_path, LoopConfig(num_steps=5, checkpoint_every_s=1e-9), "damaged")
    folder = StageFolder(storage, "line", "damaged")
    newest = folder.latest_state()
    assert newest is not None
    assert newest.step == 5
    storage.put(f"{folder.prefix}/state-00000005.safetensors", b"cut")
    older = folder.latest_state()
    assert older is not None
    assert older.step == 4


def test_a_state_whose_record_says_nothing_is_passed_over(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    run(tmp_path, LoopConfig(num_steps=3, checkpoint_every_s=1e-9), "silent")
    folder = StageFolder(storage, "line", "silent")
    storage.put_json(f"{folder.prefix}/state-00000003.json", {"step": 3})
    older = folder.latest_state()
    assert older is not None
    assert older.step == 2


def test_a_store_out_of_reach_is_not_taken_for_a_training_without_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, LoopConfig(num_steps=3, checkpoint_every_s=1e-9), "away")
    folder = StageFolder(Storage(str(tmp_path)), "line", "away")

    def away(*_: object) -> bytes:
        raise StorageError("out of reach", "root", retryable=True)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "get", away)
        with pytest.raises(StorageError, match="out of reach"):
            folder.latest_state()
    assert folder.latest_state() is not None


def test_after_damage_to_all_states_new_ones_are_kept(tmp_path: Path) -> None:
    storage, config = Storage(str(tmp_path)), LoopConfig(num_steps=9, checkpoint_every_s=1e-9)
    run(tmp_path, config, "damaged")
    folder = StageFolder(storage, "line", "damaged")
    for step in (8, 9):
        storage.put(f"{folder.prefix}/state-{step:08d}.safetensors", b"cut")

    def dies_at_4(step: int) -> Tensor:
        if step == 4:
            raise Interrupted
        return batch_at(step)

    with pytest.raises(Interrupted):
        run(tmp_path, config, "damaged", dies_at_4)
    state = folder.latest_state()
    assert state is not None
    assert state.step in (3, 4)


@pytest.mark.parametrize("num_deleted", range(4))
def test_states_that_a_kill_after_the_result_left_go_with_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_deleted: int
) -> None:
    storage = Storage(str(tmp_path))
    module = run(tmp_path, LoopConfig(num_steps=5, checkpoint_every_s=1e-9), "killed")
    folder = StageFolder(storage, "line", "killed")
    deleted: list[str] = []

    def dies(of: Storage, key: str) -> bool:
        if len(deleted) == num_deleted:
            raise Interrupted
        deleted.append(key)
        return discard(of, key)

    discard = Storage.discard
    monkeypatch.setattr(Storage, "discard", dies)
    with pytest.raises(Interrupted):
        folder.finish(module, {}, {})
    monkeypatch.undo()
    assert any("/state-" in stored.key for stored in storage.list_objects())
    assert folder.result() is not None
    assert not any("/state-" in stored.key for stored in storage.list_objects())


def test_a_state_of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    run(tmp_path, LoopConfig(num_steps=3), "other")
    other = nn.Linear(4, 1)
    folder = StageFolder(Storage(str(tmp_path)), "line", "other")

    def loss(batch: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        return other(batch).mean(), {}

    config = LoopConfig(num_steps=3)
    with pytest.raises(TrainingError, match=r"checkpoints/line/other: the state of step 0 is of another network"):
        fit(other, batch_at, loss, config, device=CPU, folder=folder, tracker=NullTracker())


@pytest.mark.parametrize(("ema_decay", "is_scored"), [(0.0, False), (0.9, False), (0.9, True)])
def test_a_disk_without_room_for_its_states_is_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema_decay: float, is_scored: bool
) -> None:
    module = nn.Linear(200, 200)
    folder = StageFolder(Storage(str(tmp_path)), "line", "full")
    every = {"checkpoint_every_s": 1e-9, "validate_every": 1}

    def train(num_steps: int) -> list[int]:
        """Return the sizes of the states that are left."""
        config = LoopConfig(num_steps=num_steps, ema_decay=ema_decay, **every)
        score = (lambda: 1.0) if is_scored else None
        fit(
            module, lambda _: torch.ones(2, 200), lambda batch: (module(batch).square().mean(), {}), config,
            device=CPU, folder=folder, tracker=NullTracker(), score=score,
        )  # fmt: skip
        return [each.stat().st_size for each in tmp_path.rglob("state-*.safetensors")]

    with monkeypatch.context() as patch:
        patch.setattr(local_files, "free_bytes", lambda _place: 0)
        with pytest.raises(StorageError, match=r"stage line: DISK\.FULL: about .* are needed"):
            train(4)
    assert list(tmp_path.rglob("state-*")) == []
    asked: list[int] = []
    monkeypatch.setattr(checkpoint, "check_disk", lambda _place, _subject, needed: asked.append(needed))
    sizes = [*train(4), *train(5)]
    assert asked[0] == 3 * asked[1], "two of the three states are there already"
    assert all(asked[1] <= size <= 1.05 * asked[1] for size in sizes)
