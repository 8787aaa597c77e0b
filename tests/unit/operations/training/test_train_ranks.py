"""A training started as two processes: what they make together, and how they end when one of them does not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from crrg.config.base import Settings
from crrg.config.references import StageResult
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.pairs import write_dataset
from crrg.domain.study import Split
from crrg.errors import ConfigError, DeviceError, TrainingError
from crrg.models.backbone import fold_resnet
from crrg.models.towers import ResNet50Tower
from crrg.operations.training import ranks as starter
from crrg.operations.training.ranks import check_ranks, stop, watch
from crrg.operations.training.train import train_stage
from crrg.storage import Storage
from crrg.training import ranks
from crrg.training.checkpoint import read_stage
from crrg.training.ranks import own_rows, own_seed, rank_parts, sync_normalisation
from tests.support.few_pairs import noise_pair

pytestmark = pytest.mark.timeout(600)  # processes start torch; seconds on a quiet machine
FORM = TrainStageConfig(dataset="few", device="cpu", num_steps=1, num_ranks=2)
CPU = torch.device("cpu")


@contextmanager
def commands(*lines: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [subprocess.Popen(["sh", "-c", line], stdin=subprocess.PIPE) for line in lines]
    try:
        yield processes
    finally:
        stop(processes)


RANK = """
from crrg.operations.training import rank_process
from crrg.operations.training import train
from tests.support.smallest_stages import Unregistered, remembered
train.open_tracker, train.ModelRegistry = remembered, Unregistered
rank_process.main()
"""


def test_two_ranks_train_one_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rank.py").write_text(RANK)
    monkeypatch.setattr(starter, "PROGRAM", (str(tmp_path / "rank.py"),))
    storage = Storage(str(tmp_path))
    write_dataset(storage, "few", [noise_pair(number, Split.TRAIN) for number in range(4)], {})
    settings = Settings(root=str(tmp_path))
    result = train_stage("detector", FORM, storage, settings)
    assert isinstance(result, StageResult)
    assert (result.model_version, result.reused) == ("of crrg-detector", False)
    config, tensors = read_stage(storage, result)
    assert config["architecture"]["num_regions"] == 29
    assert len(tensors) > 1000
    assert "state-" not in " ".join(item.key for item in storage.list_objects(result.prefix))
    with pytest.raises(ConfigError, match="the selector stage trains in one process"):
        train_stage("selector", FORM, storage, settings)


def test_a_rank_that_is_killed_ends_all_and_is_named() -> None:
    with commands("sleep 60", "kill -KILL $$") as processes:
        began_s = time.monotonic()
        with pytest.raises(TrainingError, match=r"rank 1 of 2 was killed by SIGKILL; .* run again"):
            watch(processes, "clip")
    assert time.monotonic() - began_s < 30
    assert processes[0].returncode == -signal.SIGTERM


def test_the_killed_rank_is_to_blame_for_the_errors_of_others() -> None:
    with commands("exit 1", "kill -KILL $$") as processes, pytest.raises(TrainingError, match="rank 1 of 2 was killed"):
        watch(processes, "clip")
    with commands("exit 0", "exit 3") as processes, pytest.raises(TrainingError, match=r"rank 1 of 2 .* exit code 3"):
        watch(processes, "clip")
    with commands("exit 0", "exit 0") as processes:
        watch(processes, "clip")


def test_ranks_that_were_told_to_stop_are_no_error() -> None:
    with commands("exit 143", "exit 143") as processes, pytest.raises(SystemExit) as ended:
        watch(processes, "clip")
    assert ended.value.code == 143


def test_a_rank_without_its_starter_stops(tmp_path: Path) -> None:
    code = (
        "import threading, time; from crrg.operations.training import rank_process as r; from crrg import termination;"
        "termination.end_on_sigterm(); threading.Thread(target=r._stop_without_starter, daemon=True).start();"
        "print('up', flush=True); time.sleep(60)"
    )
    rank = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert rank.stdout is not None
    assert rank.stdin is not None
    assert rank.stdout.readline() == b"up\n"
    rank.stdin.close()
    assert rank.wait(30) == 143


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="2 ranks need a GPU each, 1 visible"):
        check_ranks("clip", FORM.model_copy(update={"device": "auto"}))
    check_ranks("clip", FORM)


def test_every_rank_has_its_own_rows_and_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_rows(np.arange(6)).tolist() == [0, 1, 2, 3, 4, 5]
    assert own_seed() == []
    assert rank_parts(TrainStageConfig()) == {}, "stages of one process keep their names"
    assert rank_parts(FORM)["num_ranks"] == 2
    monkeypatch.setattr(ranks, "num_ranks", lambda: 2)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    assert own_rows(np.arange(6)).tolist() == [3, 4, 5]
    assert own_seed() == [1]


def test_normalisation_across_ranks_is_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    form = TrainStageConfig(num_ranks=2, sync_normalisation=True)
    with pytest.raises(ValueError, match="one rank has no statistics to share"):
        TrainStageConfig(sync_normalisation=True)
    module = nn.Sequential(nn.BatchNorm2d(3))
    assert sync_normalisation(module, form, CPU) is module, "alone there is nothing to share"
    monkeypatch.setattr(ranks, "num_ranks", lambda: 2)
    with pytest.raises(DeviceError, match=r"works on GPUs only; set freeze_normalisation"):
        sync_normalisation(module, form, CPU)
    found = sync_normalisation(module, form, torch.device("cuda"))
    assert isinstance(found[0], nn.SyncBatchNorm)
    assert found.state_dict().keys() == module.state_dict().keys()


@torch.inference_mode()
def test_a_tower_with_shared_normalisation_is_folded_for_use() -> None:
    tower = ResNet50Tower().eval()
    film = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    wanted = tower.body(film)
    shared = nn.SyncBatchNorm.convert_sync_batchnorm(tower.body)
    torch.testing.assert_close(fold_resnet(shared)(film), wanted, rtol=1e-4, atol=1e-4)
