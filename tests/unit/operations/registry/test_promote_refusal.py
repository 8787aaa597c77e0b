"""What a promotion that is refused says: only commands that lead there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.config.running import PromoteConfig
from crrg.errors import ModelError
from crrg.operations.registry import promote as operation
from crrg.storage import Storage


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({}, "gate=unset"),
        ({"gate": "failed", "gate_failures": "clinical/micro_f1 is 0.100, at least 0.200 is required"}, "is 0.100"),
    ],
)
def test_only_commands_that_ask_the_gate_are_named(tags, said: str, tmp_path: Path, monkeypatch) -> None:
    class Registry:
        def __init__(self, *_: object) -> None:
            self.version_tags = lambda _version: tags

    monkeypatch.setattr(operation, "ModelRegistry", Registry)
    with pytest.raises(ModelError, match="version 2: ") as refused:
        operation.promote(PromoteConfig(version=2), Storage(str(tmp_path)), Settings())
    assert said in str(refused.value)
    assert "evaluate" not in str(refused.value), "it scores, and asks no gate"
    assert re.findall(r"crrg (?:\w+)(?: --\w+)?", str(refused.value)) == ["crrg retrain", "crrg bundle --register"]
