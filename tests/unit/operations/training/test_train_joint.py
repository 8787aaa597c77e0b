"""The joint stage from drawn films to a clip part of a bundle, on real networks of a few steps."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from crrg.config import presets
from crrg.config.base import STAGES, Settings
from crrg.config.data import IngestConfig
from crrg.config.models import DecodingSettings, FusionSettings
from crrg.config.references import DatasetRef, StageResult
from crrg.config.running import EvaluateConfig, RetrainConfig
from crrg.config.training import JointRounds, TrainStageConfig
from crrg.data.dataset.batches import load_films
from crrg.data.dataset.pairs import read_pairs, read_tables, resolve_dataset
from crrg.data.phantom.cohort import write_cohort
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.labels import LABELS
from crrg.domain.regions import REGION_INDEX, REGIONS
from crrg.domain.study import DraftReport, Film, Split
from crrg.errors import DigestMismatch, ModelError
from crrg.evaluation import label_figures
from crrg.inference.pipeline import ReportPipeline
from crrg.ledger.tables import table_bytes
from crrg.operations.ingest.ingest import ingest
from crrg.operations.registry.assemble import assemble_bundle, assemble_fused
from crrg.operations.scoring.evaluate import evaluate_bundle, log_scorecard, read_scorecard
from crrg.operations.scoring.example_pictures import EXAMPLES
from crrg.operations.training import draft_store, train
from crrg.operations.training.training_drafts import draft_training_films
from crrg.registry.bundle import read_bundle, read_spec
from crrg.storage import Storage, hash_json
from crrg.training.joint import train_joint
from crrg.training.read_films import read_films
from crrg.training.tracker import NullTracker
from tests.support.keys import KEY
from tests.support.published_radgraph import write_radgraph
from tests.support.smallest_stages import Remembering, Unregistered, remembered, smallest

FORM = TrainStageConfig(dataset="drawn", device="cpu")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    folder = tmp_path_factory.mktemp("joint")
    write_cohort(folder / "source", 16, 5, 64)
    root = Storage(str(folder / "root"))
    form = IngestConfig(
        source=str(folder / "source"), dataset="drawn", image_size=64, train_share=0.5, validation_share=0.25
    )
    ingest(form, root, Pseudonyms(KEY.encode()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._PRESETS, "tiny", smallest)
        patch.setattr(train, "open_tracker", remembered)
        patch.setattr(train, "ModelRegistry", Unregistered)
        patch.setattr(draft_store, "FILMS_PER_PART", 3)
        yield root


@pytest.fixture(scope="module")
def stages(storage: Storage) -> dict[str, StageResult]:
    form = RetrainConfig(dataset="drawn", device="cpu", joint=True)
    settings = Settings(root=storage.root)
    return {each.stage: each for each in train.train_stages(form.stages(), form.stage_config(), storage, settings)}


def patients(storage: Storage, dataset: DatasetRef, *splits: Split) -> set[str]:
    tables = [table for split in splits for table in read_tables(storage, dataset, split, ("patient_id",))]
    return {row["patient_id"] for table in tables for row in table.to_pylist()}


def drafted_rows(storage: Storage) -> list[dict[str, object]]:
    found = [each for each in storage.list_objects("models/drafts") if re.search(r"-train-[0-9a-f]{8}/part-", each.key)]
    return [row for each in found for row in pq.read_table(io.BytesIO(storage.get(each.key))).to_pylist()]


def test_the_joint_stage_learns_from_drafts_of_its_own_pipeline(
    storage: Storage, stages: dict[str, StageResult]
) -> None:
    clip, joint = stages["clip"], stages["joint"]
    num_train = resolve_dataset(storage, "drawn").num_rows["train"]
    assert joint.sha256 != clip.sha256
    assert joint.model_version == "of crrg-clip"
    config = storage.get_json(f"{joint.prefix}/config.json")
    assert config["num_drafts"] == num_train
    # whose drafts they were stands beside what was trained on them, and in the card of its bundle
    drafter = assemble_bundle([stages[name] for name in STAGES], resolve_dataset(storage, "drawn").version, 64, storage)
    (manifest_key,) = [
        each.key
        for each in storage.list_objects(f"models/drafts/{drafter.bundle_id}")
        if re.search(r"-train-[0-9a-f]{8}/_manifest", each.key)
    ]
    manifest = storage.get_json(manifest_key)
    assert manifest["decoding"] == read_spec(storage.child(drafter.prefix))["decoding"]
    version = hash_json(manifest)
    assert config["drafts"] == {"version": version, "bundle_id": drafter.bundle_id, "num_films": num_train}
    learnt = assemble_bundle(list(stages.values()), "d1", 64, storage)
    card = storage.get(f"{learnt.prefix}/model_card.md").decode()
    assert f"version `{version[:16]}`, made by bundle `{drafter.bundle_id}`" in card
    assert Remembering.logged["joint/num_drafts"] == num_train
    # its texts were the stored drafts: with the very same ones it is found again
    stored = {row["instance_id"]: f"{row['findings']} {row['impression']}" for row in drafted_rows(storage)}
    assert all(text.split() for text in stored.values())
    assert train_joint(FORM, resolve_dataset(storage, "drawn"), stored, storage, NullTracker()).reused


def test_a_run_calls_name_and_version_of_its_dataset_what_every_run_does(
    storage: Storage, stages: dict[str, StageResult]
) -> None:
    assert Remembering.params["dataset_version"] == resolve_dataset(storage, "drawn").version
    assert "dataset" not in Remembering.params


def test_no_film_of_a_held_out_patient_is_drafted(storage: Storage, stages: dict[str, StageResult]) -> None:
    dataset = resolve_dataset(storage, "drawn")
    drafted = {str(row["patient_id"]) for row in drafted_rows(storage)}
    held_out = patients(storage, dataset, Split.VALIDATION, Split.TEST)
    assert drafted == patients(storage, dataset, Split.TRAIN)
    assert held_out
    assert not drafted & held_out


def test_its_result_takes_the_place_of_clip_in_the_bundle(storage: Storage, stages: dict[str, StageResult]) -> None:
    bundle = assemble_bundle(list(stages.values()), "d1", 64, storage)
    spec = read_spec(storage.child(bundle.prefix))
    assert sorted(spec["stages"]) == sorted(STAGES)
    assert spec["checkpoints"]["clip"] == stages["joint"].config_hash
    assert spec["files"]["clip.safetensors"] == stages["joint"].sha256


def test_alone_it_finds_every_stage_and_itself(storage: Storage, stages: dict[str, StageResult]) -> None:
    again = train.train_stage("joint", FORM, storage, Settings(root=storage.root))
    assert again.reused
    assert again.sha256 == stages["joint"].sha256


class HalfwayDrafter:
    """Drafts some parts and then breaks."""

    def __init__(self, num_parts: int) -> None:
        self.num_left = num_parts
        self.num_films = 0

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        if not self.num_left:
            raise KeyboardInterrupt
        self.num_left -= 1
        self.num_films += len(films)
        empty = DraftReport("", "Edema.", (), {}, {}, 1.0, ())
        return [empty] * len(films)


def test_a_drafting_that_was_cut_off_goes_on(storage: Storage) -> None:
    dataset = resolve_dataset(storage, "drawn")
    with pytest.raises(KeyboardInterrupt):
        draft_training_films(dataset, "other", DecodingSettings(), storage, lambda: HalfwayDrafter(2))
    rest = HalfwayDrafter(99)
    drafts = draft_training_films(dataset, "other", DecodingSettings(), storage, lambda: rest)
    assert rest.num_films == dataset.num_rows["train"] - 2 * 3
    assert set(drafts.texts.values()) == {"Edema."}
    assert len(drafts.texts) == dataset.num_rows["train"] == drafts.origin.num_films
    assert (
        draft_training_films(dataset, "other", DecodingSettings(), storage, lambda: pytest.fail("drafted again"))
        == drafts
    )


def test_changed_drafts_and_drafts_of_other_films_are_refused(storage: Storage) -> None:
    dataset = resolve_dataset(storage, "drawn")
    draft_training_films(dataset, "third", DecodingSettings(), storage, lambda: HalfwayDrafter(99))
    prefix = f"models/drafts/third/drawn-{dataset.version}-train-{draft_store.how_drafted(DecodingSettings())}"
    part = f"{prefix}/part-00001.parquet"
    table = pq.read_table(io.BytesIO(storage.get(part)))
    flattered = table.set_column(4, table.field("findings"), pa.array(["No edema."] * len(table)))
    storage.put(part, table_bytes(flattered))
    with pytest.raises(DigestMismatch, match="the manifest names"):
        draft_training_films(dataset, "third", DecodingSettings(), storage, lambda: HalfwayDrafter(0))
    # without a manifest, as after a run that was cut off, the pixels tell whose drafts they are
    storage.delete(f"{prefix}/_manifest.json")
    pixels = pa.array([bytes(32)] * len(table), pa.binary(32))
    storage.put(part, table_bytes(table.set_column(3, table.field("pixel_digest"), pixels)))
    with pytest.raises(DigestMismatch, match="other films"):
        draft_training_films(dataset, "third", DecodingSettings(), storage, lambda: HalfwayDrafter(0))


def test_a_retrained_bundle_gives_out_fused_probabilities(storage: Storage, stages: dict[str, StageResult]) -> None:
    form = RetrainConfig(dataset="drawn", device="cpu", fusion=FusionSettings(operating_point="specificity"))
    bundle = assemble_fused([stages[name] for name in STAGES], form, storage)
    files = read_bundle(storage, bundle)
    assert files.spec["fusion"]["num_films"] == resolve_dataset(storage, "drawn").num_rows["validation"]
    pipeline = ReportPipeline.from_bundle(files, torch.device("cpu"))
    films = [pair.film for pair in read_pairs(storage, resolve_dataset(storage, "drawn"), Split.TEST) if pair.film]
    made = pipeline.make_drafts(films)
    drafts = pipeline.draft(films)
    fused = pipeline.fusion.probabilities(made.signals())
    given = np.array([[draft.probabilities[label] for label in LABELS] for draft in drafts])
    assert np.array_equal(given, fused)
    assert np.abs(given - made.labels.probabilities).max() > 1e-3
    limits = np.array([pipeline.label_thresholds[label] for label in LABELS])
    assert [list(draft.labels.values()) for draft in drafts] == (given >= limits).astype(int).tolist()
    assert limits.tolist() == [files.spec["thresholds"][label] for label in LABELS]
    # alone or among others, the same film has the same probabilities
    assert pipeline.draft(films[:1])[0].probabilities == drafts[0].probabilities
    # assembled again, nothing is drafted and it is the same bundle
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReportPipeline, "make_drafts", lambda *_: pytest.fail("drafted again"))
        assert assemble_fused([stages[name] for name in STAGES], form, storage) == bundle
    plain = form.model_copy(update={"fusion": FusionSettings(max_films=0)})
    assert read_spec(storage.child(assemble_fused(list(stages.values()), plain, storage).prefix))["fusion"] is None


def test_drafts_go_through_the_regions_as_the_reports_did(storage: Storage, stages: dict[str, StageResult]) -> None:
    bundle = read_bundle(storage, assemble_bundle([stages[name] for name in STAGES], "d1", 64, storage))
    config = bundle.spec["stages"]["generator"]
    assert sorted(config["order"]) == sorted(REGIONS)
    config["order"] = config["order"][::-1]
    assert ReportPipeline.from_bundle(bundle, torch.device("cpu")).order == config["order"]
    del config["order"]
    assert ReportPipeline.from_bundle(bundle, torch.device("cpu")).order == REGIONS, "of before orders were learnt"


def test_nothing_is_said_of_what_a_film_does_not_show(storage: Storage, stages: dict[str, StageResult]) -> None:
    bundle = assemble_bundle([stages[name] for name in STAGES], "d1", 64, storage)
    pipeline = ReportPipeline.from_bundle(read_bundle(storage, bundle), torch.device("cpu"))
    assert pipeline.visibility is not None
    films = [pair.film for pair in read_pairs(storage, resolve_dataset(storage, "drawn"), Split.TRAIN) if pair.film]
    blind = replace(pipeline, visibility=replace(pipeline.visibility, threshold=1.1))
    before = replace(pipeline, visibility=None).draft(films)
    assert any(region.phrase for draft in before for region in draft.regions)
    for draft in blind.draft(films):
        assert not any(region.phrase or region.detected for region in draft.regions)
    for draft, old in zip(pipeline.draft(films), before, strict=True):
        chances = pipeline.visibility.probabilities(np.array([[region.score for region in old.regions]]))[0]
        assert [region.score for region in draft.regions] == pytest.approx(chances.tolist(), abs=1e-6)
        assert [region.box_xyxy for region in draft.regions] == [region.box_xyxy for region in old.regions]


def test_a_generator_is_scored_on_regions_that_the_night_would_speak_of(
    storage: Storage, stages: dict[str, StageResult]
) -> None:
    dataset, cpu = resolve_dataset(storage, "drawn"), torch.device("cpu")
    pipeline = ReportPipeline.from_bundle(
        read_bundle(storage, assemble_bundle([stages[name] for name in STAGES], "d1", 64, storage)), cpu
    )
    load = partial(load_films, storage, dataset, Split.TRAIN)
    read = read_films(load, stages["detector"], stages["selector"], storage, cpu)
    found = pipeline.read_regions([pair.film for pair in read_pairs(storage, dataset, Split.TRAIN) if pair.film])
    assert read.visibility is not None
    np.testing.assert_allclose(read.readings.scores, found.scores, atol=1e-6)
    assert np.array_equal(read.readings.detected, found.detected)


@pytest.mark.parametrize("rerank", [False, True])
def test_drafts_with_all_wordings_are_the_drafts_themselves(
    storage: Storage, stages: dict[str, StageResult], rerank: bool
) -> None:
    bundle = assemble_bundle([stages[name] for name in STAGES], "d1", 64, storage)
    pipeline = ReportPipeline.from_bundle(read_bundle(storage, bundle), torch.device("cpu"))
    pipeline = replace(pipeline, decoding=pipeline.decoding.model_copy(update={"rerank": rerank}))
    films = [pair.film for pair in read_pairs(storage, resolve_dataset(storage, "drawn"), Split.TEST) if pair.film]
    for draft, kept in zip(pipeline.draft(films), pipeline.draft_nbest(films), strict=True):
        assert (kept.findings, kept.impression) == (draft.findings, draft.impression)
        said = {REGION_INDEX[region.region]: region.phrase for region in draft.regions if region.phrase}
        assert said.keys() == kept.hypotheses.keys()
        assert all(phrase in kept.texts()[index] for index, phrase in said.items())


def test_a_scorecard_shows_every_classifier_beside_the_majority_and_radgraph_beside_its_baselines(
    storage: Storage, stages: dict[str, StageResult], tmp_path: Path
) -> None:
    bundle = assemble_bundle([stages[name] for name in STAGES], "d1", 64, storage)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{number}" for number in range(296))]
    form = EvaluateConfig(
        dataset="drawn", split="train", device="cpu", radgraph=str(write_radgraph(tmp_path / "radgraph", words))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_figures, "NUM_SAMPLES", 10)
        result = evaluate_bundle(bundle, form, storage)
    card = read_scorecard(result, storage)
    graphs = [figure for figure in card if figure.name.startswith("radgraph/")]
    baselines = ["best constant report", "nearest neighbour", "always normal"]
    assert [figure.baseline_name for figure in graphs] == baselines * 3
    # the films are those that the nearest film is looked for among
    assert [figure.baseline for figure in graphs[1::3]] == [1.0] * 3
    assert all(0 <= figure.low <= figure.value <= figure.high <= 1 for figure in graphs)
    by_name = {figure.name: figure for figure in card if figure.baseline_name in ("majority", "chance")}
    for source in ("", "head_", "probe_", "zero_shot_"):
        for name in ("auc", "auprc", "f1", "accuracy", "sensitivity", "ece"):
            figure = by_name[f"classification/{source}mean_{name}"]
            assert figure.baseline is not None
            assert figure.low is not None
            assert figure.high is not None
            assert 0 <= figure.low <= figure.high <= 1
    assert by_name["classification/mean_auc"].baseline == 0.5
    assert {"retrieval/recall_at_1", "retrieval/recall_at_5", "retrieval/recall_at_10"} <= set(by_name)
    # without a fused classifier what is given out is the label head's
    assert card["classification/mean_auc"] == card["classification/head_mean_auc"]
    tracker = Remembering()
    tracker.pictures.clear()
    log_scorecard(result, storage, tracker)
    examples = [name for name in tracker.pictures if name.startswith("examples/")]
    assert sorted(set(tracker.pictures) - set(examples)) == ["classification/reliability.png", "classification/roc.png"]
    assert set(examples) <= {f"examples/{name}" for name in EXAMPLES}
    assert all(png.startswith(b"\x89PNG") for png in tracker.pictures.values())


@pytest.fixture(scope="module")
def in_rounds(storage: Storage, stages: dict[str, StageResult]) -> tuple[TrainStageConfig, StageResult]:
    form = FORM.model_copy(
        update={"rounds": JointRounds(max_rounds=2, num_films=5, generator_steps=2, learning_rate=1e-2)}
    )
    upstream = [stages[name] for name in STAGES]
    return form, train.train_stage("joint", form, storage, Settings(root=storage.root), upstream=upstream)


def test_rounds_train_both_modules_and_keep_the_best(
    storage: Storage, stages: dict[str, StageResult], in_rounds: tuple[TrainStageConfig, StageResult]
) -> None:
    _, result = in_rounds
    scores = [result.metrics[f"joint/round_{number}"] for number in (0, 1)]
    best = int(result.metrics["joint/best_round"])
    assert all(0 <= score <= 1 for score in scores)
    if best == 0:
        assert scores[1] <= scores[0]
        assert result.beside == ()
    trained = storage.list_folder("checkpoints/joint-generator")
    assert len(trained) in (1, 2)
    generator = StageResult.model_validate(storage.get_json(f"checkpoints/joint-generator/{trained[0]}/result.json"))
    assert generator.part == "generator"
    assert generator.sha256 != stages["generator"].sha256
    read = {name: stages[name].sha256 for name in ("detector", "selector")}
    noted = [storage.get_json(f"{each.prefix}/config.json")["trained_on"] for each in (generator, stages["generator"])]
    assert noted == [read, read]
    # what a round made beside CLIP takes its place in the bundle too
    both = result.model_copy(update={"beside": (generator,)})
    spec = read_spec(storage.child(assemble_bundle([*stages.values(), both], "d1", 64, storage).prefix))
    assert spec["files"]["generator.safetensors"] == generator.sha256
    assert spec["files"]["clip.safetensors"] == result.sha256


def test_drafts_of_the_rounds_are_a_version_of_training_films_only(
    storage: Storage, in_rounds: tuple[TrainStageConfig, StageResult]
) -> None:
    found = [each.key for each in storage.list_objects("models/drafts") if each.key.endswith("_manifest.json")]
    manifests = [key for key in found if "nbest" in key]
    assert len(manifests) >= 2  # of the generator before the rounds and after one
    dataset = resolve_dataset(storage, "drawn")
    for key in manifests:
        manifest = storage.get_json(key)
        assert (manifest["num_films"], len(manifest["parts"])) == (5, 2)
        rows = [row for part in manifest["parts"] for row in pq.read_table(io.BytesIO(storage.get(part))).to_pylist()]
        assert {row["patient_id"] for row in rows} <= patients(storage, dataset, Split.TRAIN)
        assert all(found["wordings"] for row in rows for found in row["regions"])


def test_rounds_that_were_run_are_found_again_and_damaged_drafts_are_refused(
    storage: Storage, stages: dict[str, StageResult], in_rounds: tuple[TrainStageConfig, StageResult]
) -> None:
    form, result = in_rounds
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReportPipeline, "from_bundle", lambda *_: pytest.fail("a pipeline was built again"))
        again = train.train_stage(
            "joint", form, storage, Settings(root=storage.root), upstream=[stages[name] for name in STAGES]
        )
    assert again.reused
    assert again.sha256 == result.sha256
    assert [each.sha256 for each in again.beside] == [each.sha256 for each in result.beside]
    part = next(
        each.key for each in storage.list_objects("models/drafts") if "nbest" in each.key and "part" in each.key
    )
    data = storage.get(part)
    storage.put(part, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DigestMismatch, match="draft again"):
        train.train_stage(
            "joint", form, storage, Settings(root=storage.root), upstream=[stages[name] for name in STAGES]
        )
    storage.put(part, data)


def test_a_generator_goes_into_no_bundle_with_another_selector_of_the_same_sizes(
    storage: Storage, stages: dict[str, StageResult]
) -> None:
    form = FORM.model_copy(update={"seed": 9})
    other = train.train_stage("selector", form, storage, Settings(root=storage.root), upstream=[stages["detector"]])
    parts = {**stages, "selector": other}
    refusal = f"the generator {stages['generator'].prefix} was trained on a selector .*, not on {other.prefix} "
    with pytest.raises(ModelError, match=refusal):
        assemble_bundle([parts[name] for name in STAGES], "d1", 64, storage)
