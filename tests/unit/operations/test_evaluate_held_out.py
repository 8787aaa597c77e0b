"""Evaluations of a real bundle of the smallest size: without training films, on films it has seen, on other splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from crrg.config import presets
from crrg.config.base import STAGES, Settings
from crrg.config.data import IngestConfig
from crrg.config.references import BundleRef, EvaluationResult
from crrg.config.running import EvaluateConfig, RetrainConfig
from crrg.data.deidentify import Pseudonyms
from crrg.data.phantom.cohort import write_cohort
from crrg.errors import ConfigError
from crrg.evaluation.scorecard import Scorecard
from crrg.operations import evaluate as evaluation
from crrg.operations import train
from crrg.operations.assemble import assemble_fused
from crrg.operations.evaluate import evaluate_bundle, read_scorecard
from crrg.operations.ingest import ingest
from crrg.operations.scoring_cases import FITTED
from crrg.storage import Storage
from tests.support.smallest_stages import Unregistered, remembered, smallest


@dataclass(frozen=True)
class World:
    home: Path
    storage: Storage
    bundle: BundleRef

    def ingest(self, source: str, dataset: str, **shares: float) -> None:
        form = IngestConfig(source=str(self.home / source), dataset=dataset, image_size=64, **shares)
        ingest(form, self.storage, Pseudonyms(b"k" * 32))

    def score(self, dataset: str, split: str = "test") -> tuple[EvaluationResult, Scorecard]:
        form = EvaluateConfig(dataset=dataset, split=split, device="cpu")
        result = evaluate_bundle(self.bundle, form, self.storage)
        return result, read_scorecard(result, self.storage)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    home = tmp_path_factory.mktemp("held-out")
    write_cohort(home / "known", 16, 5, 64)
    write_cohort(home / "strange", 8, 6, 64)
    storage = Storage(str(home / "root"))
    world = World(home, storage, BundleRef(bundle_id="", prefix=""))
    world.ingest("known", "known", train_share=0.5, validation_share=0.25)
    world.ingest("known", "known-again", train_share=0.0, validation_share=0.0)
    world.ingest("strange", "strange", train_share=0.0, validation_share=0.0)
    form = RetrainConfig(dataset="known", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._PRESETS, "tiny", smallest)
        patch.setattr(train, "open_tracker", remembered)
        patch.setattr(train, "ModelRegistry", Unregistered)
        stages = train.train_stages(STAGES, form.stage_config(), storage, Settings(root=storage.root))
    return World(home, storage, assemble_fused(stages, form, storage))


def test_without_a_training_film_the_baselines_that_need_one_are_left_out_and_named(world: World) -> None:
    result, card = world.score("strange")
    assert 0 <= result.metrics["detection/mean_region_iou"] <= 1
    rivals = {figure.baseline_name for figure in card}
    assert {"always normal", "always select", "all positive"} <= rivals
    assert not rivals & set(FITTED)
    assert "nearest neighbour: no training films in this dataset" in card.remarks
    assert "- nearest neighbour: no training films in this dataset" in card.to_markdown().split("\n")
    assert world.storage.get_json(result.scorecard_key)["remarks"] == list(card.remarks)


def test_a_split_that_says_nothing_is_refused_before_anything_is_drafted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "evaluate_bundle", lambda *_: pytest.fail("drafted"))
    form = EvaluateConfig(dataset="strange", split="train", model=world.storage.url(world.bundle.prefix))
    with pytest.raises(ConfigError, match=r"nothing can be scored \(rows: train 0, validation 0, test 8\)"):
        evaluation.evaluate(form, world.storage, Settings(root=world.storage.root))
