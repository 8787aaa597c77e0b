"""An operator's stop after the last stage of a retraining: nothing is assembled, scored or decided any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crrg.config.base import Settings
from crrg.config.references import BundleRef, DatasetRef, EvaluationResult, PromotionResult
from crrg.config.running import EvaluateConfig, GroundConfig, PromoteConfig, RetrainConfig
from crrg.errors import CrrgError
from crrg.operations.ingest.ground import ground
from crrg.operations.registry import promote as promotion
from crrg.operations.registry.assemble import assemble_fused
from crrg.operations.scoring.evaluate import evaluate_bundle
from crrg.operations.stop import STOP_KEY
from crrg.registry.gate import GateOutcome
from crrg.storage import Storage

BUNDLE = BundleRef(bundle_id="b" * 32, prefix="models/bundles/b", model_version="3")
DATASET = DatasetRef(name="d", version="d1", manifest_key="m", num_rows={"test": 3})


class Registry:
    """Refuses to learn what a gate decided."""

    def __init__(self, *_: object) -> None:
        """Take what a registry takes."""

    def set_tags(self, *_: object) -> None:
        raise AssertionError("the gate decided")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def test_no_bundle_is_assembled_or_scored_and_no_dataset_grounded(storage: Storage) -> None:
    storage.put(STOP_KEY, b"")
    with pytest.raises(
        CrrgError, match=r"^control/STOP: stopped by an operator, finished stages are kept; remove this"
    ):
        assemble_fused([], RetrainConfig(), storage)
    with pytest.raises(CrrgError, match=r"^control/STOP: stopped by an operator, nothing was scored; remove this"):
        evaluate_bundle(BUNDLE, EvaluateConfig(), storage)
    with pytest.raises(CrrgError, match=r"^control/STOP: stopped by an operator, nothing was grounded; remove this"):
        ground(GroundConfig(dataset="d"), storage, Settings(root=storage.root))
    assert [stored.key for stored in storage.list_objects()] == [STOP_KEY]


def test_a_stop_while_the_champion_is_scored_leaves_a_candidate(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*_: Any) -> tuple[GateOutcome, str]:
        storage.put(STOP_KEY, b"")
        return GateOutcome(True, ()), "2"

    monkeypatch.setattr(promotion, "ModelRegistry", Registry)
    monkeypatch.setattr(promotion, "check_against_champion", check)
    evaluation = EvaluationResult(bundle=BUNDLE, dataset=DATASET, split="test", metrics={}, scorecard_key="k")
    with pytest.raises(
        CrrgError, match=r"control/STOP: stopped by an operator, version 3 of crrg-pipeline is a candidate"
    ):
        promotion.gate_and_promote(evaluation, RetrainConfig(), storage, Settings(root=storage.root))
    assert [stored.key for stored in storage.list_objects()] == [STOP_KEY], "nothing is audited that was not decided"


def test_a_person_may_go_back_while_everything_is_stopped(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    class Known(Registry):
        def aliases(self) -> dict[str, str]:
            return {"champion": "3", "previous": "2"}

        def version_tags(self, _version: str) -> dict[str, str]:
            return {"gate": "passed"}

    moved: list[str] = []

    def make_champion(version: str, *_: object) -> PromotionResult:
        moved.append(version)
        return PromotionResult(promoted=True, version=version, bundle_id="b")

    storage.put(STOP_KEY, b"")
    monkeypatch.setattr(promotion, "ModelRegistry", Known)
    monkeypatch.setattr(promotion, "_make_champion", make_champion)
    assert promotion.promote(PromoteConfig(rollback=True), storage, Settings(root=storage.root)).promoted
    assert moved == ["2"]
