"""The published generation model on random weights: our networks say what its own forward pass says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.generation.published import FullModel, full_model, random_film, save_published
from crrg.config.models import DecodingSettings
from crrg.config.paper import LOGIT_THRESHOLD_PROBABILITY, PAPER_GENERATOR, paper_thresholds
from crrg.data.tokenizer import train_tokenizer
from crrg.errors import ConfigError, ModelError
from crrg.importers.imported import ImportedStage, write_import
from crrg.importers.rgrg import detector_architecture, generator_architecture, import_rgrg, told_sizes
from crrg.importers.torch_file import TorchContents
from crrg.inference.decoding import decode_phrases
from crrg.inference.regions import RegionThresholds, select_regions
from crrg.models.backbone import normalise_films
from crrg.models.detector import load_detector
from crrg.models.region_heads import load_selector
from crrg.models.report_generator import load_generator
from crrg.operations.registry.given_parts import check_parts, find_parts
from crrg.operations.registry.importing import import_checkpoint, import_markdown
from crrg.storage import Storage
from crrg.training.checkpoint import read_stage


@pytest.fixture(scope="module")
def published() -> FullModel:
    return full_model()


@pytest.fixture(scope="module")
def path(published: FullModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rgrg") / "full_model.pt"
    save_published(published, file)
    return file


@pytest.fixture(scope="module")
def imported(path: Path) -> dict[str, ImportedStage]:
    return {stage.stage: stage for stage in import_rgrg(path)}


@pytest.mark.parametrize(("exact_roi", "tolerance"), [(True, 1e-3), (False, 0.02)])
def test_regions_are_those_of_the_published_model(
    published: FullModel, imported: dict[str, ImportedStage], exact_roi: bool, tolerance: float
) -> None:
    (boxes,), (detected,), (features,) = published.object_detector(normalise_films(random_film()))
    detector = imported["detector"].module.eval()
    detector.exact_roi = exact_roi
    found = detector.detect(random_film())
    assert 3 <= int(detected.sum()) <= 29
    assert torch.equal(found.detected[0], detected)
    assert torch.allclose(found.input_boxes_xyxy[0][detected], boxes[detected], rtol=0, atol=tolerance)
    judged = imported["selector"].module.eval()(found.region_features)
    assert torch.allclose(judged.features[0][detected], features[detected], rtol=1e-4, atol=1e-3)
    wanted = published.binary_classifier_region_selection.classifier(features)[:, 0]
    assert torch.allclose(judged.selection_logits[0][detected], wanted[detected], rtol=1e-4, atol=1e-3)
    wanted = published.binary_classifier_region_abnormal.classifier(features)[:, 0]
    assert torch.allclose(judged.abnormal_logits[0][detected], wanted[detected], rtol=1e-4, atol=1e-3)


def test_words_are_those_of_the_published_model(published: FullModel, imported: dict[str, ImportedStage]) -> None:
    generator = imported["generator"].module.eval()
    features = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
    token_ids = torch.randint(0, 300, (3, 9), generator=torch.Generator().manual_seed(3))
    condition = generator.encode_condition(features, torch.zeros(3, dtype=torch.long), torch.zeros(3, 15))
    assert condition.shape == (3, 1, 128)
    found = generator(token_ids, condition)
    for row in range(3):
        assert torch.allclose(found[row], published.language_model(token_ids[row], features[row]), atol=1e-5)


def test_settings_are_the_papers_with_the_sizes_of_the_file(imported: dict[str, ImportedStage]) -> None:
    detector, generator = (imported[name].config["architecture"] for name in ("detector", "generator"))
    assert (detector["representation_size"], detector["roi_size"], detector["num_regions"]) == (16, 8, 29)
    assert (generator["num_layers"], generator["num_heads"], generator["vocab_size"]) == (2, 2, 300)
    assert generator["position_table"] == "wte"
    assert imported["selector"].config["thresholds"]["selection"] == pytest.approx(LOGIT_THRESHOLD_PROBABILITY)
    assert imported["generator"].config["decoding"]["num_beams"] == 4


def test_every_key_is_accounted_for(published: FullModel, imported: dict[str, ImportedStage]) -> None:
    reports = [stage.key_report for stage in imported.values()]
    accounted = [
        *(f"object_detector.{name}" for name in reports[0]["taken"].values()),
        *reports[1]["taken"].values(),
        *reports[1]["dropped"],
        *(
            f"language_model.{name}"
            for name in (*reports[2]["taken"].values(), *reports[2]["aliases"], *reports[2]["dropped"])
        ),
    ]
    assert sorted(accounted) == sorted(published.state_dict())
    assert sorted(reports[2]["own"]) == ["feature_mean", "feature_scale", "unknown_feature"]


def test_every_key_of_a_detector_file_is_accounted_for(published: FullModel, tmp_path: Path) -> None:
    torch.save(published.object_detector.state_dict(), tmp_path / "detector.pth")
    (stage,) = import_rgrg(tmp_path / "detector.pth")
    report = stage.key_report
    assert report["dropped"] == ["roi_heads.dim_reduction.bias", "roi_heads.dim_reduction.weight"]
    accounted = [*report["taken"].values(), *report["aliases"], *report["dropped"]]
    assert sorted(accounted) == sorted(published.object_detector.state_dict())


def test_sizes_that_no_network_can_have_are_refused_with_their_tensors() -> None:
    detector = {
        "roi_heads.box_head.fc6.weight": torch.zeros(8, 64),
        "rpn.head.cls_logits.weight": torch.zeros(1, 16, 1, 1),
        "roi_heads.box_predictor.cls_score.weight": torch.zeros(30, 8),
    }
    wanted = r"representation_size 8 of roi_heads.box_head.fc6.weight \(Input .* 16\); give the file as its authors"
    with pytest.raises(ModelError, match=wanted):
        detector_architecture(TorchContents(detector, {}, {}))
    other = {**detector, "roi_heads.box_predictor.cls_score.weight": torch.zeros(21, 8)}
    with pytest.raises(ModelError, match=r"cls_score.weight tells 20 regions apart, not 29; give the file"):
        detector_architecture(TorchContents(other, {}, {}))
    words = {
        "wte.weight": torch.zeros(200, 1000),
        "wpe.weight": torch.zeros(40, 1000),
        "feature_space_transformation_nn.0.weight": torch.zeros(1000, 64),
    }
    with pytest.raises(ModelError, match=r"num_layers 0 of the blocks .* vocab_size 200 of wte.weight \(.* 300\)"):
        generator_architecture(TorchContents(words, {}, {}))
    words |= {"wte.weight": torch.zeros(300, 1000), "gpt.h.0.ln_1.weight": torch.zeros(1000)}
    with pytest.raises(ModelError, match=r"num_heads must divide hidden_size, got 15 and 1000; give the file"):
        generator_architecture(TorchContents(words, {}, {}))


def test_assumed_heads_and_missing_blocks_are_told(path: Path, tmp_path: Path) -> None:
    report = import_checkpoint("rgrg", path, tmp_path / "out")
    told = "2 layers as in the file; 2 attention heads, assumed from the width 128 (64 each)."
    assert {name: found["remarks"] for name, found in report["stages"].items()} == {
        "detector": [], "selector": [], "generator": [told],
    }  # fmt: skip
    assert f"generator: {told}" in import_markdown(report).split("\n")
    assert len(told_sizes(PAPER_GENERATOR)) == 1
    _, warning = told_sizes(PAPER_GENERATOR.model_copy(update={"num_layers": 23}))
    assert warning.startswith("Warning: at this width the published model has 24 layers and 16 heads")


def test_what_is_written_is_read_back_by_the_stages_own_loaders(path: Path, tmp_path: Path) -> None:
    report = import_checkpoint("rgrg", path, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "key_report.json").read_text()) == report
    assert import_markdown(report).count("\n| ") == 5
    for stage, load in (("detector", load_detector), ("selector", load_selector)):
        folder = tmp_path / "out" / stage
        data = (folder / "model.safetensors").read_bytes()
        assert hashlib.sha256(data).hexdigest() == report["stages"][stage]["sha256"]
        module = load(json.loads((folder / "config.json").read_text()), data, torch.device("cpu"))
        count = sum(parameter.numel() for parameter in module.parameters())
        assert count == report["stages"][stage]["num_parameters"]


def test_what_is_written_goes_into_a_bundle_together(imported: dict[str, ImportedStage], tmp_path: Path) -> None:
    vocabulary = train_tokenizer([f"the {one} lung is {other}" for one in "abcdefgh" for other in "ijklmnop"], 300)
    spelt = {**imported["generator"].config, "tokenizer_sha256": vocabulary.sha256}
    files = {"tokenizer.json": vocabulary.to_bytes()}
    stages = {**imported, "generator": replace(imported["generator"], config=spelt, files=files)}
    report = write_import(list(stages.values()), tmp_path / "rgrg", "rgrg", "as published")
    storage = Storage(str(tmp_path / "root"))
    parts = {part.stage: part for part in find_parts((str(tmp_path / "rgrg"),), storage)}
    check_parts(parts, storage)
    assert {name: part.sha256 for name, part in parts.items()} == {
        name: found["sha256"] for name, found in report["stages"].items()
    }
    config, tensors = read_stage(storage, parts["generator"])
    generator = load_generator(config, tensors, storage.get(f"{parts['generator'].prefix}/tokenizer.json"))
    features = torch.randn(2, 64, generator=torch.Generator().manual_seed(2)).numpy()
    settings = DecodingSettings.model_validate({**config["decoding"], "max_tokens": 4})
    worded = decode_phrases(
        generator, vocabulary, features, np.zeros(2, np.int64), np.zeros((2, 15), np.float32), settings
    )
    assert len(worded) == 2


def test_equal_files_give_equal_weights(path: Path, imported: dict[str, ImportedStage]) -> None:
    for stage in import_rgrg(path):
        for name, tensor in imported[stage.stage].module.state_dict().items():
            assert torch.equal(stage.module.state_dict()[name], tensor), (stage.stage, name)


def test_other_kinds_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of rgrg"):
        import_checkpoint("other", tmp_path / "none.pt", tmp_path)
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="neither"):
        import_checkpoint("rgrg", tmp_path / "other.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_detector_file_with_the_older_name_is_read(published: FullModel, tmp_path: Path) -> None:
    older = {
        name.replace("rpn.head.conv.0.0.", "rpn.head.conv."): tensor
        for name, tensor in published.object_detector.state_dict().items()
    }
    torch.save(older, tmp_path / "detector.pth")
    (stage,) = import_rgrg(tmp_path / "detector.pth")
    assert torch.equal(stage.module.rpn.head.conv[0][0].weight, published.object_detector.rpn.head.conv[0][0].weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("roi_heads.box_head.fc7.bias"), "1 missing"),
        (lambda state: state.update({"roi_heads.extra.weight": torch.zeros(1)}), "1 unknown"),
        (lambda state: state.update({"rpn.head.bbox_pred.bias": torch.zeros(5)}), "1 of another shape"),
        (lambda state: state.update({"roi_heads.box_head.fc6.weight": torch.zeros(5)}), "has not 2 dimensions"),
        (lambda state: state.update({"rpn.head.cls_logits.weight": torch.zeros(5, 5)}), "has not 4 dimensions"),
    ],
)
def test_a_key_that_does_not_fit_refuses_the_file(published: FullModel, tmp_path: Path, change, message: str) -> None:
    state = dict(published.object_detector.state_dict())
    change(state)
    torch.save(state, tmp_path / "detector.pth")
    with pytest.raises(ModelError, match=message):
        import_rgrg(tmp_path / "detector.pth")


def test_a_region_is_selected_above_a_logit_of_minus_one_and_not_at_it() -> None:
    thresholds = RegionThresholds.from_config({"thresholds": paper_thresholds()})
    logits = torch.tensor([[-1.0, -1.0 + 1e-6, -1.0 - 1e-6, 0.0]])
    chosen = select_regions(logits.sigmoid().numpy(), np.zeros((1, 4, 14), np.float32), thresholds)
    assert chosen[0].tolist() == [False, True, False, True]


@pytest.mark.parametrize("kept", ["gpt_with_lm_head.", "gpt.", "gpt2_blocks."])
def test_one_name_of_each_tensor_is_enough(published: FullModel, kept: str, tmp_path: Path) -> None:
    bare = {"gpt2_blocks.": ("wte.", "wpe.", "final_layernorm."), "gpt.": (), "gpt_with_lm_head.": ()}[kept]
    names = (kept, *bare, "feature_space_transformation_nn.")
    state = {
        name: tensor
        for name, tensor in published.state_dict().items()
        if not name.startswith("language_model.") or name.removeprefix("language_model.").startswith(names)
    }
    torch.save({"model": state}, tmp_path / "one_name.pt")
    *_, generator = import_rgrg(tmp_path / "one_name.pt")
    found, feature = torch.arange(5), torch.randn(64, generator=torch.Generator().manual_seed(2))
    module = generator.module.eval()
    condition = module.encode_condition(feature[None], torch.zeros(1, dtype=torch.long), torch.zeros(1, 15))
    assert torch.allclose(module(found[None], condition)[0], published.language_model(found, feature), atol=1e-5)
    assert generator.key_report["aliases"] == {} or kept == "gpt_with_lm_head.", "the word table is also the output"
