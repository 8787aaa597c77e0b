"""Evaluations of a real bundle of the smallest size: without training films, on films it has seen, on other splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from crrg.config.base import STAGES, Settings
from crrg.config.references import BundleRef, EvaluationResult
from crrg.config.running import EvaluateConfig, RetrainConfig
from crrg.data.dataset.pairs import read_pairs, resolve_dataset
from crrg.domain.study import Split
from crrg.errors import ConfigError, NothingHeldOut
from crrg.evaluation.scorecard import Scorecard
from crrg.operations.privacy.trained_on import models_trained_on
from crrg.operations.registry import promote
from crrg.operations.scoring import evaluate as evaluation
from crrg.operations.scoring import learnt_from as learnt
from crrg.operations.scoring.cases import FITTED
from crrg.operations.scoring.evaluate import evaluate_bundle, read_scorecard
from crrg.operations.scoring.learnt_from import learnt_from
from crrg.operations.summaries import evaluation_markdown
from crrg.registry.bundle import read_spec
from crrg.registry.composing import write_bundle
from crrg.registry.gate import CLINICAL_F1, LABEL_AUC, REGION_IOU, ZERO_SHOT_AUC
from crrg.storage import Storage
from tests.support.drawn_bundle import draw_dataset, train_bundle
from tests.support.stand_in_bundle import stand_in_stage


@dataclass(frozen=True)
class World:
    storage: Storage
    bundle: BundleRef

    def score(self, dataset: str, split: str = "test") -> tuple[EvaluationResult, Scorecard]:
        form = EvaluateConfig(dataset=dataset, split=split, device="cpu")
        result = evaluate_bundle(self.bundle, form, self.storage)
        return result, read_scorecard(result, self.storage)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    home = tmp_path_factory.mktemp("held-out")
    storage = Storage(str(home / "root"))
    draw_dataset(storage, home / "known", "known", 0.5, 0.25)
    draw_dataset(storage, home / "known", "known-again", 0, 0)
    draw_dataset(storage, home / "known", "renamed", 0, 0, key=b"r")
    draw_dataset(storage, home / "strange", "strange", 0, 0, seed=6)
    draw_dataset(storage, home / "few", "few", 1, 0, seed=7)
    draw_dataset(storage, home / "few", "few-again", 0, 0, seed=7)
    draw_dataset(storage, home / "strange", "strange-train", 1, 0, seed=6)
    draw_dataset(storage, home / "strange", "strange-larger", 0, 0, seed=6, image_size=96)
    return World(storage, train_bundle(storage, "known"))


def patients(world: World, *splits: Split) -> set[str]:
    known = resolve_dataset(world.storage, "known")
    return {pair.patient_id for split in splits for pair in read_pairs(world.storage, known, split)}


def test_without_a_training_film_the_baselines_that_need_one_are_left_out_and_named(world: World) -> None:
    result, card = world.score("strange")
    assert 0 <= result.metrics["detection/mean_region_iou"] <= 1
    rivals = {figure.baseline_name for figure in card}
    assert {"always normal", "always select", "all positive"} <= rivals
    assert not rivals & set(FITTED)
    assert "nearest neighbour: no training films in this dataset" in card.remarks
    assert "- nearest neighbour: no training films in this dataset" in card.to_markdown().split("\n")
    assert world.storage.get_json(result.scorecard_key)["remarks"] == list(card.remarks)


def test_films_of_another_size_are_scored_and_named(world: World, caplog: pytest.LogCaptureFixture) -> None:
    said = "the dataset has at most 96 pixels on the longer side, the bundle was trained on 64"
    _, card = world.score("strange-larger")
    assert [said in remark for remark in card.remarks].count(True) == 1
    assert said in caplog.text
    assert not any("another size" in remark for remark in world.score("strange")[1].remarks)
    spec = {"preprocessing": {}, "bundle_id": "older"}
    larger = resolve_dataset(world.storage, "strange-larger")
    assert evaluation._size_remarks(spec, larger, world.storage) == (), "it does not say which films it wants"


def test_a_split_that_says_nothing_is_refused_before_anything_is_drafted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "evaluate_bundle", lambda *_: pytest.fail("drafted"))
    form = EvaluateConfig(dataset="strange", split="train", model=world.storage.url(world.bundle.prefix))
    with pytest.raises(ConfigError, match=r"nothing can be scored \(rows: train 0, validation 0, test 16\)"):
        evaluation.evaluate(form, world.storage, Settings(root=world.storage.root))


def test_films_that_the_bundle_has_seen_are_left_out_and_counted(world: World) -> None:
    own = resolve_dataset(world.storage, "known").num_rows
    num_seen = own["train"] + own["validation"]
    num_patients = len(patients(world, Split.TRAIN, Split.VALIDATION)), len(patients(world, *Split))
    clean, unbiased = world.score("known")
    assert (clean.num_left_out, unbiased.is_held_out) == (0, True)
    assert not [remark for remark in unbiased.remarks if "left out" in remark]
    # the same films again, all of them test films: by patient, and under other pseudonyms by their pixels
    for name in ("known-again", "renamed"):
        result, card = world.score(name)
        assert (result.num_left_out, card.num_left_out) == (num_seen, num_seen)
        assert card.num_studies == own["test"] == unbiased.num_studies
        said = f"{num_seen} of 16 films ({num_patients[0]} of {num_patients[1]} patients) are left out"
        assert said in card.remarks[0]
        assert said in card.to_markdown()
        assert f"{num_seen} films are left out" in evaluation_markdown(result)
        assert result.metrics[REGION_IOU] == pytest.approx(clean.metrics[REGION_IOU])


def test_a_part_that_was_trained_on_another_dataset_counts_too(world: World) -> None:
    spec = read_spec(world.storage.child(world.bundle.prefix))
    version = resolve_dataset(world.storage, "known").version
    assert {config["dataset_version"] for config in spec["stages"].values()} == {version}
    other = resolve_dataset(world.storage, "strange-train").version
    mixed = {**spec, "stages": {**spec["stages"], "detector": {"dataset_version": other}}}
    learnt = learnt_from([mixed], world.storage)
    assert learnt.versions == {version, other}
    pairs = list(read_pairs(world.storage, resolve_dataset(world.storage, "strange"), Split.TEST))
    assert all(learnt.has_seen(pair) for pair in pairs)
    assert not any(learnt_from([spec], world.storage).has_seen(pair) for pair in pairs)
    lost = {"dataset_version": "gone", "stages": {"selector": {"imported": {"source": "rgrg"}}}}
    unknown = learnt_from([lost], world.storage)
    assert unknown.unknown == (
        "selector was trained by others (rgrg)", "dataset version gone is not under this root",
    )  # fmt: skip


def test_a_bundle_is_found_by_the_dataset_of_any_of_its_parts(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    stages = {name: stand_in_stage(storage, name) for name in STAGES}
    key = f"{stages['detector'].prefix}/config.json"
    storage.put_json(key, {**storage.get_json(key), "dataset_version": "d0"})
    bundle = write_bundle(storage, stages, dataset_version="d1", image_size=64)
    for version in ("d0", "d1"):
        found = models_trained_on(storage, Settings(root=storage.root), {version})
        assert f"bundle {bundle.bundle_id}" in found
    assert not models_trained_on(storage, Settings(root=storage.root), {"d2"})


@pytest.mark.parametrize(
    ("split", "words"), [("train", "in-sample"), ("validation", "tuned on: weights, thresholds and calibration")]
)
def test_another_split_than_test_is_marked(world: World, split: str, words: str) -> None:
    result, card = world.score("known", split)
    num = resolve_dataset(world.storage, "known").num_rows[split]
    assert not card.is_held_out
    assert world.storage.get_json(result.scorecard_key)["is_held_out"] is False
    assert card.remarks[0].startswith(words)
    assert card.remarks[1].startswith(f"{num} of {num} films")
    assert card.to_markdown().startswith(f"- {words}")
    assert card.num_studies == num


class Registry:
    """Knows a champion and nothing else."""

    def aliases(self) -> dict[str, str]:
        return {"champion": "1"}


def result_on(world: World, dataset: str, figures: dict[str, float]) -> EvaluationResult:
    return EvaluationResult(
        bundle=BundleRef(bundle_id="own", prefix="o", model_version="2"),
        dataset=resolve_dataset(world.storage, dataset),
        split="test",
        metrics=figures,
        scorecard_key="k",
    )


def test_a_gate_looks_at_films_that_neither_bundle_has_seen(world: World) -> None:
    asked: list[tuple[str, str, str]] = []
    rival = BundleRef(bundle_id="rival", prefix="r", model_version="1")

    def score(bundle: BundleRef, form: EvaluateConfig, _storage: Storage, *, beside: BundleRef | None = None):
        asked.append((bundle.bundle_id, beside.bundle_id if beside else "", form.split))
        figures = {REGION_IOU: 0.6, LABEL_AUC: 0.7, CLINICAL_F1: 0.3, ZERO_SHOT_AUC: 0.7}
        if bundle is rival and beside is None:
            figures[LABEL_AUC] = 0.99
        return result.model_copy(update={"metrics": figures, "bundle": bundle, "num_left_out": 3})

    result = result_on(world, "known", {REGION_IOU: 0.6, LABEL_AUC: 0.7, CLINICAL_F1: 0.3, ZERO_SHOT_AUC: 0.7})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promote, "evaluate_bundle", score)
        patch.setattr(promote, "version_ref", lambda *_: rival)
        outcome, _ = promote.check_against_champion(result, RetrainConfig(), Registry(), world.storage)
        assert outcome.passed
        assert asked == [("rival", "", "test"), ("own", "rival", "test"), ("rival", "own", "test")]
        seen = result.model_copy(update={"split": "validation"})
        outcome, _ = promote.check_against_champion(seen, RetrainConfig(), Registry(), world.storage)
    assert "the figures are of split validation" in outcome.failures[0]


def test_a_bundle_that_has_seen_every_film_is_not_scored_and_no_gate_takes_its_word(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = resolve_dataset(world.storage, "few")
    monkeypatch.setattr(learnt, "dataset_versions", lambda _spec: {few.version})
    with pytest.raises(NothingHeldOut, match="all 16 films of split test were seen in training"):
        world.score("few-again")

    result = result_on(world, "few-again", {REGION_IOU: 1.0, LABEL_AUC: 1.0, CLINICAL_F1: 1.0, ZERO_SHOT_AUC: 1.0})
    monkeypatch.setattr(promote, "version_ref", lambda *_: world.bundle)
    outcome, champion = promote.check_against_champion(result, RetrainConfig(device="cpu"), Registry(), world.storage)
    assert (outcome.passed, champion) == (False, "1")
    assert "name a dataset with films of other patients" in outcome.failures[0]
