"""The recipe ``paper``: its three stages learn on together, are found again, and make a bundle that drafts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from crrg.config import presets
from crrg.config.base import STAGES, Settings
from crrg.config.paper import LOGIT_THRESHOLD_PROBABILITY
from crrg.config.references import StageResult
from crrg.config.resolved import check_settings
from crrg.config.running import RetrainConfig
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.pairs import read_pairs, resolve_dataset
from crrg.domain.study import Split
from crrg.errors import ConfigError, ModelError
from crrg.inference.pipeline import ReportPipeline
from crrg.operations.registry.assemble import assemble_bundle, parts_of
from crrg.operations.registry.given_parts import check_parts, find_parts
from crrg.operations.training import train
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage
from crrg.training import paper_stages
from crrg.training.checkpoint import read_stage
from crrg.training.tracker import NullTracker
from tests.support.drawn_bundle import draw_dataset
from tests.support.smallest_stages import Unregistered, remembered, smallest_paper

FORM = RetrainConfig(dataset="drawn", device="cpu", num_steps=2, recipe="paper")


@dataclass(frozen=True)
class Trained:
    storage: Storage
    stages: tuple[StageResult, ...]

    def again(self, stage: Any, **changes: Any) -> StageResult:
        form = FORM.stage_config().model_copy(update=changes)
        return train.train_stage(stage, form, self.storage, Settings(root=self.storage.root))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    home = tmp_path_factory.mktemp("paper")
    storage = Storage(str(home / "root"))
    draw_dataset(storage, home / "source", "drawn", 0.5, 0.25)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._PRESETS, "tiny", smallest_paper)
        patch.setattr(train, "open_tracker", remembered)
        patch.setattr(train, "ModelRegistry", Unregistered)
        settings = Settings(root=storage.root)
        yield Trained(storage, train.train_stages(FORM.stages(), FORM.stage_config(), storage, settings))


def test_each_stage_makes_the_parts_before_it_anew(trained: Trained) -> None:
    detector, selector, generator, _ = trained.stages
    assert [each.stage for each in selector.beside] == ["selector-detector"]
    assert [each.stage for each in generator.beside] == ["generator-detector", "generator-selector"]
    assert generator.beside[1].sha256 != selector.sha256
    weights = [
        load(read_stage(trained.storage, part)[1]) for part in (detector, selector.beside[0], generator.beside[0])
    ]
    for before, after in itertools.pairwise(weights):
        assert not torch.equal(before["backbone.body.0.weight"], after["backbone.body.0.weight"]), "heads train it, too"
    assert [each.model_version for each in generator.beside] == ["of crrg-detector", "of crrg-selector"]


def test_no_step_of_theirs_is_skipped(trained: Trained, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert not trained.again("selector", seed=5).reused
    assert "selector: trained" in caplog.text
    assert "skipped" not in caplog.text


@pytest.mark.parametrize("stage", ["selector", "generator"])
def test_a_region_that_nobody_annotates_keeps_no_film_from_teaching_background(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    class Begun(Exception):
        pass

    taught: list[list[int]] = []
    priors = [load(read_stage(trained.storage, trained.stages[0])[1])["shape_prior.mean_boxes"]]
    find = paper_stages.find_proposals

    def without_one(detector: Any, films: Any, *others: Any) -> Any:
        films.input_boxes_xyxy[:, 13] = np.nan
        return find(detector, films, *others)

    def begin(whole: Any, *_: Any, **__: Any) -> None:
        taught.append((~whole.detector.taught).nonzero()[:, 0].tolist())
        priors.append(whole.detector.shape_prior.mean_boxes)
        raise Begun

    monkeypatch.setattr(paper_stages, "find_proposals", without_one)
    monkeypatch.setattr(paper_stages, "fit", begin)
    with pytest.raises(Begun):
        trained.again(stage, seed=6)
    assert 13 in taught[0]
    if stage == "selector":
        assert torch.equal(*priors), "mean boxes are those of stage 1"


def test_the_bundle_drafts_with_what_learnt_on_last(trained: Trained) -> None:
    generator = trained.stages[2]
    files = read_bundle(trained.storage, assemble_bundle(trained.stages, "d1", 64, trained.storage))
    assert files.spec["checkpoints"]["detector"] == generator.config_hash
    assert files.spec["files"]["detector.safetensors"] == generator.beside[0].sha256
    assert files.spec["files"]["selector.safetensors"] == generator.beside[1].sha256
    assert files.spec["decoding"]["compat"] == "rgrg"
    assert files.spec["stages"]["selector"]["thresholds"]["selection"] == LOGIT_THRESHOLD_PROBABILITY
    assert "visibility" not in files.spec["stages"]["detector"], "the paper's rule says what was found"
    pipeline = ReportPipeline.from_bundle(files, torch.device("cpu"))
    dataset = resolve_dataset(trained.storage, "drawn")
    films = [pair.film for pair in read_pairs(trained.storage, dataset, Split.TEST) if pair.film]
    drafts = pipeline.draft(films)
    assert len(drafts) == len(films) > 0
    assert any(region.detected for draft in drafts for region in draft.regions)


def test_a_finished_stage_is_found_with_what_was_made_beside_it(trained: Trained) -> None:
    again = trained.again("generator")
    assert again.reused
    assert (again.sha256, again.beside) == (trained.stages[2].sha256, trained.stages[2].beside)
    other = trained.again("selector", seed=4)
    assert not other.reused
    assert other.config_hash != trained.stages[1].config_hash


def test_each_stage_notes_the_parts_that_learnt_on_with_it(trained: Trained) -> None:
    _, selector, generator, _ = trained.stages

    def noted(result: StageResult) -> Any:
        return read_stage(trained.storage, result)[0].get("trained_on")

    detector, heads = generator.beside
    assert noted(selector) == {"detector": selector.beside[0].sha256}
    assert noted(heads) == {"detector": detector.sha256}
    assert noted(generator) == {"detector": detector.sha256, "selector": heads.sha256}
    assert noted(detector) is None


def test_folders_of_earlier_stages_do_not_take_the_place_of_what_learnt_on_after_them(trained: Trained) -> None:
    detector, selector, generator, clip = (each.prefix for each in trained.stages)

    def bundled(*folders: str) -> str:
        found = find_parts(folders, trained.storage)
        check_parts(parts_of(found), trained.storage)
        return assemble_bundle(found, "d1", 64, trained.storage).bundle_id

    whole = bundled(generator, clip)
    assert bundled(clip, detector, selector, generator) == whole
    wrong_heads = f"the generator {generator} was trained on a selector .*, not on {selector} .*give its folder after"
    with pytest.raises(ModelError, match=wrong_heads):
        bundled(generator, selector, clip)
    with pytest.raises(ModelError, match=f"trained on a detector .*, not on {detector} "):
        bundled(selector, generator, detector, clip)


def test_our_recipe_is_another_training(trained: Trained) -> None:
    ours = trained.again("selector", recipe="crrg")
    assert ours.beside == ()
    assert ours.config_hash != trained.stages[1].config_hash
    config = trained.storage.get_json(f"{ours.prefix}/config.json")
    assert config["architecture"]["backbone"] == "conv"


def test_a_detector_of_our_recipe_is_refused(trained: Trained) -> None:
    ours = trained.again("detector", recipe="crrg")
    dataset = resolve_dataset(trained.storage, "drawn")
    with pytest.raises(ConfigError, match="train it with the recipe `paper` as well"):
        paper_stages.train_paper_selector(FORM.stage_config(), dataset, ours, trained.storage, NullTracker())


def test_what_the_paper_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="the recipe `paper` has no balanced_share; it knows architecture"):
        check_settings(("selector",), TrainStageConfig(recipe="paper", selector={"balanced_share": 0.5}))
    check_settings(STAGES, TrainStageConfig(recipe="paper", selector={"loop": {"batch_size": 2}}))


def test_a_part_is_named_after_what_it_is(trained: Trained) -> None:
    assert set(parts_of(trained.stages)) == set(STAGES)
    for name, part in {"joint": "clip", "joint-generator": "generator", "generator-detector": "detector"}.items():
        assert trained.stages[0].model_copy(update={"stage": name}).part == part
