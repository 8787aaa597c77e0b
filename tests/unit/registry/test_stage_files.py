"""What a finished stage learnt counts only as it was written: weights, settings, thresholds, vocabulary."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from crrg.config.base import STAGES
from crrg.config.references import StageResult
from crrg.errors import CrrgError, DigestMismatch, ModelError
from crrg.registry.composing import write_bundle
from crrg.registry.stage_files import read_stage_file
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, read_stage
from tests.support.stand_in_bundle import stand_in_stage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def finish(storage: Storage) -> StageResult:
    torch.manual_seed(0)
    config = {"architecture": {"size": 2}, "thresholds": {"Edema": 0.5}}
    folder = StageFolder(storage, "clip", "abc", "d1")
    return folder.finish(nn.Linear(2, 2), config, {"m/x": 0.5}, files={"tokenizer.json": b'{"a": 1}'})


def recorded(storage: Storage, stage: str) -> StageResult:
    """Return a stand-in that records its files as ``StageFolder.finish`` does."""
    result = stand_in_stage(storage, stage)
    keys = [stored.key for stored in storage.list_objects(result.prefix) if not stored.key.endswith("safetensors")]
    files: Mapping[str, str] = {key.rsplit("/", 1)[-1]: hashlib.sha256(storage.get(key)).hexdigest() for key in keys}
    return result.model_copy(update={"files": dict(files)})


def test_a_finished_stage_records_all_its_files(storage: Storage) -> None:
    result = finish(storage)
    assert set(result.files) == {"config.json", "tokenizer.json"}
    found = StageFolder(storage, "clip", "abc").result()
    assert found is not None
    assert found.files == result.files
    config, weights = read_stage(storage, found)
    assert (config["thresholds"], config["dataset_version"]) == ({"Edema": 0.5}, "d1")
    assert hashlib.sha256(weights).hexdigest() == result.sha256
    assert read_stage_file(storage, found, "tokenizer.json") == b'{"a": 1}'


@pytest.mark.parametrize(
    ("name", "data"), [("config.json", b'{"thresholds":{"Edema":0.1}}'), ("tokenizer.json", b'{"a": 2}')]
)
def test_a_changed_file_of_a_finished_stage_is_refused_and_the_way_out_is_named(
    storage: Storage, name: str, data: bytes
) -> None:
    result = finish(storage)
    storage.put(f"{result.prefix}/{name}", data)
    with pytest.raises(DigestMismatch, match=r"or remove checkpoints/clip/abc/result\.json and train the stage again"):
        read_stage_file(storage, result, name)
    storage.delete(f"{result.prefix}/{name}")
    with pytest.raises(ModelError, match="is gone; restore it, or remove"):
        read_stage_file(storage, result, name)


def test_flipped_weights_are_refused_and_training_again_mends_them(storage: Storage) -> None:
    result = finish(storage)
    key = f"{result.prefix}/model.safetensors"
    whole = storage.get(key)
    storage.put(key, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DigestMismatch, match=r"remove checkpoints/clip/abc/result\.json"):
        read_stage(storage, result)
    storage.delete(f"{result.prefix}/result.json")
    assert StageFolder(storage, "clip", "abc").result() is None
    assert finish(storage) == result
    assert storage.get(key) == whole


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        *((stage, name) for stage in STAGES for name in ("config.json", "model.safetensors")),
        ("generator", "tokenizer.json"),
        ("clip", "tokenizer.json"),
    ],
)
def test_no_bundle_is_made_of_a_stage_that_was_changed(storage: Storage, stage: str, name: str) -> None:
    results = {each: recorded(storage, each) for each in STAGES}
    key = f"{results[stage].prefix}/{name}"
    whole = storage.get(key)
    storage.put(key, whole.replace(b"1", b"2") if name == "config.json" else whole[:-1] + b"!")
    with pytest.raises(CrrgError, match="not what the stage was finished with"):
        write_bundle(storage, results, dataset_version="d1", image_size=64)
    storage.put(key, whole)
    assert write_bundle(storage, results, dataset_version="d1", image_size=64).bundle_id


def test_a_stage_of_before_files_were_recorded_vouches_for_its_weights_alone(storage: Storage) -> None:
    result = finish(storage).model_copy(update={"files": {}})
    storage.put(f"{result.prefix}/tokenizer.json", b"{}")
    assert read_stage_file(storage, result, "tokenizer.json") == b"{}"
