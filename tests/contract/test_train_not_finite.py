"""A loss that stays without a number: the stage fails, and nothing of it is registered or found finished."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from torch import Tensor

from crrg.config.base import Settings
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.pairs import write_dataset
from crrg.domain.study import Split
from crrg.errors import NonFiniteLoss
from crrg.models.detector import RegionDetector
from crrg.operations.training.train import train_stage
from crrg.storage import Storage
from crrg.tracking.models import ModelRegistry
from crrg.training import detector
from tests.support.few_pairs import noise_pair


def test_a_stage_that_diverges_is_not_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, settings = Storage(str(tmp_path)), Settings(root=str(tmp_path))
    write_dataset(storage, "few", [noise_pair(number, Split.TRAIN) for number in range(4)], {})
    form = TrainStageConfig(dataset="few", device="cpu", num_steps=12)

    usual = detector.detector_loss

    def diverging(model: RegionDetector) -> Callable[[Any], tuple[Tensor, dict[str, Tensor]]]:
        loss_of = usual(model)

        def loss(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
            loss, parts = loss_of(batch)
            return loss * math.nan, parts

        return loss

    monkeypatch.setattr(detector, "detector_loss", diverging)
    with pytest.raises(NonFiniteLoss):
        train_stage("detector", form, storage, settings)
    client = MlflowClient(ModelRegistry(settings, storage).uri)
    assert list(client.search_registered_models()) == []
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert run.info.status == "FAILED"
    left = {stored.key.rpartition("/")[2].partition("-")[0] for stored in storage.list_objects("checkpoints")}
    assert left == {"state"}, "the good states stay, weights and result are not written"
