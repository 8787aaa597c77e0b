"""Bundles of imported detector, selector and generator beside a trained CLIP: drafted with, scored, refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from crrg.config import presets
from crrg.config.base import Settings
from crrg.config.bundling import BundleConfig
from crrg.config.data import IngestConfig
from crrg.config.models import FusionSettings
from crrg.config.paper import (
    PAPER_DECODING,
    narrow_detector,
    narrow_generator,
    narrow_selector,
    paper_thresholds,
)
from crrg.config.running import EvaluateConfig
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.pairs import read_pairs, resolve_dataset, write_dataset
from crrg.data.phantom.cohort import write_cohort
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.tokenizer import END_TOKEN, train_tokenizer
from crrg.domain.labels import LABELS
from crrg.domain.study import Split
from crrg.errors import ConfigError, GateNotMet, ModelError
from crrg.importers.imported import ImportedStage, write_import
from crrg.importers.licences import LICENCES
from crrg.inference.decoding import DecodedPhrase
from crrg.inference.pipeline import ReportPipeline
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import FeatureSelector
from crrg.models.report_generator import ReportGenerator
from crrg.operations.ingest.ingest import ingest
from crrg.operations.registry.importing import import_checkpoint
from crrg.operations.registry.make_bundle import MadeBundle, make_bundle
from crrg.operations.scoring.evaluate import evaluate_bundle
from crrg.operations.training import fast_gate, train
from crrg.operations.training.fuse import fit_fusion
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage
from tests.support.keys import KEY
from tests.support.sentence_folder import write_encoder
from tests.support.smallest_stages import Unregistered, remembered, smallest

PHRASES = ["The left lung is clear.", "A right pleural effusion.", "The heart is large.", END_TOKEN]


def write_published(folder: Path, *, seed: int = 7, size: int = 64, with_vocabulary: bool = True) -> Path:
    """Write what an import of the paper's modules writes, narrowed, on random weights."""
    torch.manual_seed(seed)
    detector, selector = narrow_detector(2, size), narrow_selector(2, size)
    vocabulary = train_tokenizer(PHRASES, 300)
    generator = narrow_generator(16, 1, 1, selector.feature_size, vocabulary.vocab_size, 24)
    decoding = PAPER_DECODING.model_copy(update={"num_beams": 1, "max_tokens": 8}).model_dump(mode="json")
    files = {"tokenizer.json": vocabulary.to_bytes()} if with_vocabulary else {}
    spelt = {"decoding": decoding, "tokenizer_sha256": vocabulary.sha256 if with_vocabulary else ""}
    stages = [
        ImportedStage("detector", RegionDetector(detector), {"architecture": detector.model_dump(mode="json")}, {}),
        ImportedStage("selector", FeatureSelector(selector),
                      {"architecture": selector.model_dump(mode="json"), "thresholds": paper_thresholds()}, {}),
        ImportedStage("generator", ReportGenerator(generator),
                      {"architecture": generator.model_dump(mode="json"), **spelt}, {}, files),
    ]  # fmt: skip
    write_import(stages, folder, "rgrg", LICENCES["rgrg"])
    return folder


@dataclass(frozen=True)
class World:
    storage: Storage
    settings: Settings
    published: Path
    clip: str
    made: MadeBundle

    def make(self, *parts: Path | str) -> MadeBundle:
        form = BundleConfig(parts=tuple(str(part) for part in parts), dataset="drawn", device="cpu")
        return make_bundle(form, self.storage, self.settings)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    home = tmp_path_factory.mktemp("given")
    write_cohort(home / "source", 12, 5, 64)
    storage = Storage(str(home / "root"))
    form = IngestConfig(
        source=str(home / "source"), dataset="drawn", image_size=64, train_share=0.5, validation_share=0.25
    )
    ingest(form, storage, Pseudonyms(KEY.encode()))
    settings = Settings(root=storage.root)
    published = write_published(home / "rgrg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._PRESETS, "tiny", smallest)
        patch.setattr(train, "open_tracker", remembered)
        patch.setattr(train, "ModelRegistry", Unregistered)
        clip = train.train_stage("clip", TrainStageConfig(dataset="drawn", device="cpu"), storage, settings).prefix
    bundle = BundleConfig(parts=(str(published), clip), dataset="drawn", device="cpu")
    return World(storage, settings, published, clip, make_bundle(bundle, storage, settings))


def test_imported_parts_draft_beside_a_trained_clip(world: World) -> None:
    bundle = read_bundle(world.storage, world.made.bundle)
    assert bundle.spec["preprocessing"]["image_size"] == 64, "as its dataset has them"
    assert bundle.spec["decoding"]["compat"] == "rgrg", "decoded as it was published"
    assert bundle.spec["fusion"]["num_films"] == resolve_dataset(world.storage, "drawn").num_rows["validation"]
    pipeline = ReportPipeline.from_bundle(bundle, torch.device("cpu"))
    assert pipeline.image_size == 64
    weights = load((world.published / "generator" / "model.safetensors").read_bytes())
    ours = pipeline.generator.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in weights.items())
    dataset = resolve_dataset(world.storage, "drawn")
    films = [pair.film for pair in read_pairs(world.storage, dataset, Split.TEST) if pair.film]
    drafts = pipeline.draft(films)
    assert any(region.phrase for draft in drafts for region in draft.regions)
    assert all(0 < value < 1 for draft in drafts for value in draft.probabilities.values())


def test_the_fused_classifier_takes_unmentioned_findings_as_absent_where_it_is_asked_to(world: World) -> None:
    pairs = list(read_pairs(world.storage, resolve_dataset(world.storage, "drawn"), Split.VALIDATION))
    present = [{label: 1 for label, value in pair.labels.items() if value == 1} for pair in pairs]
    bundle = read_bundle(world.storage, world.made.bundle)

    def fitted(name: str, labels: list[dict[str, int]], *, unmentioned_absent: bool) -> dict[str, Any]:
        told = [replace(pair, labels=given) for pair, given in zip(pairs, labels, strict=True)]
        dataset = write_dataset(world.storage, name, told, {"image_size": 64})
        settings = FusionSettings(unmentioned_absent=unmentioned_absent)
        fusion = fit_fusion(bundle, dataset, settings, "cpu", world.storage)
        assert fusion is not None
        return fusion["labels"]

    absent = fitted("told", present, unmentioned_absent=True)
    whole = [{label: given.get(label, 0) for label in LABELS} for given in present]
    assert absent == fitted("whole", whole, unmentioned_absent=False)
    assert absent != fitted("told", present, unmentioned_absent=False)


def test_rounded_weights_are_drafted_with_beside_exact_ones(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    form = BundleConfig(
        parts=(str(world.published), world.clip), dataset="drawn", device="cpu", decoding={"precision": "fast"}
    )
    monkeypatch.setattr(fast_gate, "MIN_IDENTICAL", 1.1)
    with pytest.raises(GateNotMet, match="sentences are the same, at least 110% are required") as refused:
        make_bundle(form, world.storage, world.settings)
    assert 0 <= refused.value.scorecard[fast_gate.IDENTICAL] <= 1
    assert "drafts are exact here" not in caplog.text
    monkeypatch.setattr(fast_gate, "MIN_IDENTICAL", 0.0)
    monkeypatch.setattr(fast_gate, "MAX_DIFFERENCE", 1e9)
    monkeypatch.setattr(fast_gate, "_compare", lambda *_: pytest.fail("drafted again"))
    made = make_bundle(form, world.storage, world.settings)
    assert "drafts are exact here" not in caplog.text
    caplog.clear()
    bundle = read_bundle(world.storage, made.bundle)
    assert bundle.spec["decoding"]["precision"] == "fast"
    assert bundle.spec["metrics"]["generator"] == refused.value.scorecard
    assert made.bundle != world.made.bundle
    assert bundle.fast_devices == ("cpu",)
    assert ReportPipeline.from_bundle(bundle, torch.device("cpu")).decoding.precision == "fast"
    assert not caplog.records
    for kinds, told in ((["cuda"], "on cuda and not on cpu"), ([], "on no recorded device and not on cpu")):
        elsewhere = replace(bundle, spec={**bundle.spec, "fast_devices": kinds})
        assert ReportPipeline.from_bundle(elsewhere, torch.device("cpu")).decoding.precision == "exact"
        assert f"{told}, so drafts are exact here; for rounded ones assemble the bundle again" in caplog.text
        assert "with device = cpu, then register and promote it" in caplog.text


def test_parts_that_read_larger_films_are_named(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world.make(world.published, world.clip)
    assert "pixels on the longer side" not in caplog.text
    larger = write_published(tmp_path / "larger", size=96)
    made = world.make(larger, world.clip)
    assert read_bundle(world.storage, made.bundle).image_size == 64
    assert "have 64 pixels on the longer side, less than detector (96) and selector (96) read" in caplog.text
    assert "ingest the dataset with image_size = 96" in caplog.text


def test_the_bundle_says_whose_parts_it_holds(world: World) -> None:
    card = read_bundle(world.storage, world.made.bundle).files["model_card.md"].decode()
    sha256 = hashlib.sha256((world.published / "detector" / "model.safetensors").read_bytes()).hexdigest()
    assert f"| detector | rgrg | `{sha256[:16]}` | {LICENCES['rgrg']} |" in card
    assert card.count("| rgrg |") == 3, "the CLIP part is our own"


def test_it_is_evaluated_like_any_other_bundle(world: World) -> None:
    form = EvaluateConfig(dataset="drawn", model=world.made.folder, limit=1, device="cpu")
    metrics = evaluate_bundle(world.made.bundle, form, world.storage).metrics
    assert 0 <= metrics["detection/mean_region_iou"] <= 1
    assert "clinical/micro_f1" in metrics


def test_the_same_parts_are_the_same_bundle_and_a_damaged_copy_is_mended(world: World) -> None:
    copy = f"{world.made.parts['selector'].prefix}/model.safetensors"
    right = world.storage.get(copy)
    world.storage.put(copy, b"damaged")
    again = world.make(world.published, world.clip)
    assert again.bundle == world.made.bundle
    assert world.storage.get(copy) == right


def test_a_bundle_finds_repeats_by_an_encoder_that_it_brings(world: World, tmp_path: Path) -> None:
    write_encoder(tmp_path / "folder")
    import_checkpoint("sentence-encoder", tmp_path / "folder", tmp_path / "encoder")
    made = world.make(world.published, tmp_path / "encoder", world.clip)
    assert made.bundle != world.made.bundle
    assert "| sentence-encoder | in the bundle |" in made.to_markdown()
    bundle = read_bundle(world.storage, made.bundle)
    assert (
        f"| sentence-encoder | sentence-encoder | `{made.encoder_sha256[:16]}` |"
        in bundle.files["model_card.md"].decode()
    )
    pipeline = ReportPipeline.from_bundle(bundle, torch.device("cpu"))
    assert pipeline.repeats is not None
    phrases = {
        i: DecodedPhrase(text, 0.0, True) for i, text in enumerate(("The lungs are clear.", "the lungs are CLEAR ."))
    }
    found, _ = pipeline._assemble(phrases, np.zeros((29, 15)))
    assert found == "the lungs are CLEAR .", "the same tokens, and the longer one stays"
    assert (
        ReportPipeline.from_bundle(read_bundle(world.storage, world.made.bundle), torch.device("cpu")).repeats is None
    )


def test_an_encoder_that_would_not_be_asked_is_refused(world: World, tmp_path: Path) -> None:
    write_encoder(tmp_path / "folder")
    import_checkpoint("sentence-encoder", tmp_path / "folder", tmp_path / "encoder")
    parts = (str(world.published), str(tmp_path / "encoder"), world.clip)
    form = BundleConfig(parts=parts, dataset="drawn", device="cpu", decoding={"compat": "none"})
    with pytest.raises(ConfigError, match=r"assembled as published; set decoding.compat to rgrg"):
        make_bundle(form, world.storage, world.settings)
    (tmp_path / "encoder" / "sentence-encoder" / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match=r"the vocabulary has digest .* was imported; import again"):
        world.make(*parts)


def test_a_candidate_is_scored_and_gated_but_never_promoted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from crrg.config.references import PromotionResult
    from crrg.operations.registry import make_bundle as operation

    asked = []

    def gate(evaluation, config, *_):
        asked.append(config.promote)
        return PromotionResult(promoted=False, version=evaluation.bundle.model_version, reasons=("too weak",))

    monkeypatch.setattr(
        operation, "register_bundle", lambda found, *_: found.bundle.model_copy(update={"model_version": "4"})
    )
    monkeypatch.setattr(operation, "gate_and_promote", gate)
    form = BundleConfig(
        parts=(str(world.published), world.clip), dataset="drawn", device="cpu", register_candidate=True
    )
    made = operation.make_bundle(form, world.storage, world.settings)
    assert asked == ["never"]
    assert made.bundle.model_version == "4"
    assert "too weak" in made.to_markdown()
    assert world.made.folder in made.to_markdown()


def test_parts_that_were_not_trained_together_are_refused(world: World, tmp_path: Path) -> None:
    other = write_published(tmp_path / "other", seed=8)
    shutil.rmtree(other / "detector")
    report = json.loads((other / "key_report.json").read_text())
    del report["stages"]["detector"]
    (other / "key_report.json").write_text(json.dumps(report))
    with pytest.raises(ConfigError, match="the detector it was trained with; take both from one folder"):
        world.make(world.published, other, world.clip)


def test_what_a_bundle_cannot_hold_is_refused_with_the_way_out(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no folder contains clip; .*crrg train STAGE"):
        world.make(world.published)
    with pytest.raises(ConfigError, match="contains no part of a bundle"):
        world.make(tmp_path)
    for source in ("cxr-clip", "gpt2"):
        stage = ImportedStage({"cxr-clip": "clip"}.get(source, source), torch.nn.Linear(1, 1), {}, {})
        write_import([stage], tmp_path / source, source, LICENCES[source])
    with pytest.raises(ConfigError, match=r"cxr-clip has none; train one .*--initial-weights.*zero-shot --model"):
        world.make(world.published, tmp_path / "cxr-clip")
    with pytest.raises(ConfigError, match="gpt2 of gpt2 is no part of a bundle"):
        world.make(world.published, tmp_path / "gpt2")


def test_damaged_and_speechless_imports_are_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="import it again with --tokenizer"):
        world.make(write_published(tmp_path / "speechless", with_vocabulary=False), world.clip)
    damaged = write_published(tmp_path / "damaged")
    (damaged / "generator" / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(ModelError, match=r"the vocabulary has digest .* was imported; import again"):
        world.make(damaged, world.clip)
    weights = damaged / "detector" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="was imported; import again"):
        world.make(damaged, world.clip)
