"""Parts that `crrg bundle` is given: imported stages, and trained ones that were trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crrg.config.references import StageResult
from crrg.errors import ConfigError
from crrg.operations.registry.given_parts import check_parts
from crrg.storage import Storage
from tests.support.stand_in_bundle import stand_in_stage

IMPORTED = {"source": "rgrg", "import_id": "one"}
SIZES: dict[str, dict[str, Any]] = {
    "detector": {"backbone": "resnet50", "resnet_width": 2, "region_features": True},
    "selector": {"backbone": "detector", "width": 64, "feature_size": 16},
    "generator": {"feature_size": 16},
}


def made(storage: Storage, name: str, **config: Any) -> StageResult:
    result = stand_in_stage(storage, name)
    storage.put_json(f"{result.prefix}/config.json", {"architecture": SIZES[name], **config})
    return result


def test_what_was_trained_on_an_import_goes_with_it(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    parts = {name: made(storage, name, imported=IMPORTED) for name in SIZES}
    check_parts(parts, storage)
    older = {**parts, "generator": made(storage, "generator")}
    with pytest.raises(ConfigError, match="selector and generator come from different imports or trainings"):
        check_parts(older, storage)
    digests = {name: parts[name].sha256 for name in ("detector", "selector")}
    check_parts({**parts, "generator": made(storage, "generator", trained_on=digests)}, storage)
    heads = made(storage, "selector", trained_on={"detector": parts["detector"].sha256})
    generator = made(storage, "generator", trained_on=digests)
    check_parts({**parts, "selector": heads, "generator": generator}, storage)
    with pytest.raises(ConfigError, match="the detector it was trained with; take both from one folder"):
        check_parts({**parts, "selector": made(storage, "selector"), "generator": generator}, storage)
