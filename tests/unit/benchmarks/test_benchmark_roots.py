"""Which bundle of a root a benchmark measures where none is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.roots import find_bundle
from crrg.errors import ModelError
from crrg.registry.aliases import record_alias
from crrg.storage import Storage
from tests.support.stand_in_bundle import stand_in_bundle


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    for name in [name for name in os.environ if name.startswith("CRRG_")]:
        monkeypatch.delenv(name)
    return Storage(str(tmp_path))


def test_the_newest_bundle_is_taken_where_there_is_no_champion(storage: Storage, tmp_path: Path) -> None:
    bundles = [stand_in_bundle(storage, detector=seed) for seed in (1, 2, 3)]
    for newest in bundles:
        for bundle in bundles:
            manifest = tmp_path / bundle.prefix / "bundle.json"
            os.utime(manifest, (1e9, 1e9 + (bundle == newest)))
        assert find_bundle(storage) == newest


def test_the_champion_goes_before_newer_bundles(storage: Storage, tmp_path: Path) -> None:
    champion, newer = stand_in_bundle(storage, detector=1), stand_in_bundle(storage, detector=2)
    os.utime(tmp_path / champion.prefix / "bundle.json", (1e9, 1e9))
    record_alias(storage, "champion", champion)
    assert find_bundle(storage) == champion
    assert find_bundle(storage, newer.bundle_id) == find_bundle(storage, f"{newer.prefix}/") == newer


def test_a_root_without_bundles_says_how_to_make_one(storage: Storage) -> None:
    with pytest.raises(ModelError, match="crrg retrain"):
        find_bundle(storage)
    storage.put("models/bundles/half/detector.safetensors", b"")
    with pytest.raises(ModelError, match="crrg demo"):
        find_bundle(storage)
