"""The reader of torch archives: safe contents only, shared tensors once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from crrg.errors import ModelError
from crrg.importers.torch_file import open_torch_file


def test_tensors_numbers_and_strings_come_out_and_training_state_does_not(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    torch.save(
        {
            "model": {"a": shared, "b": shared, "c": shared[1], "d": shared.T},
            "optimizer": {"state": torch.zeros(9)},
            "config": {"model": {"name": "resnet", "sizes": [3, 4]}},
            "epoch": 7,
        },
        tmp_path / "file.pt",
    )
    with open_torch_file(tmp_path / "file.pt") as contents:
        model = contents.below("model")
        assert model.names() == ["a", "b", "c", "d"]
        assert len(model.tensors) == 3
        assert torch.equal(model["b"], shared)
        assert torch.equal(model["c"], shared[1])
        assert torch.equal(model["d"], shared.T)
        assert contents.values == {"config.model.name": "resnet", "config.model.sizes.0": 3,
                                   "config.model.sizes.1": 4, "epoch": 7}  # fmt: skip
        assert not any(name.startswith("optimizer") for name in contents.names())


def test_the_format_of_before_torch_1_6_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with open_torch_file(tmp_path / "old.pt") as contents:
        assert torch.equal(contents["a"], torch.ones(2))


class Runs:
    """Would make a folder if it were unpickled."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_file_that_runs_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    torch.save({"a": Runs(str(tmp_path / "made"))}, tmp_path / "evil.pt")
    refusal = rf"not a torch archive of only tensors.*it needs {os.name}\.mkdir.*state dict alone"
    with pytest.raises(ModelError, match=refusal), open_torch_file(tmp_path / "evil.pt"):
        pass
    assert not (tmp_path / "made").exists()


def test_of_two_tensors_of_one_name_none_is_lost(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}, "model.a": torch.zeros(1)}, tmp_path / "two.pt")
    with (
        pytest.raises(ModelError, match=r"it contains two entries named model\.a"),
        open_torch_file(tmp_path / "two.pt"),
    ):
        pass


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(ModelError, match="checkpoint"), open_torch_file(tmp_path / "file.pt"):
        pass


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"), open_torch_file(tmp_path / "none.pt"):
        pass
