"""Detector and selector stages on a handful of films: what they leave behind, what they reuse, what they refuse."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from crrg.config.overrides import SelectorOverrides
from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import SelectorTraining, TrainStageConfig
from crrg.data.dataset.batches import load_films
from crrg.data.dataset.pairs import write_dataset
from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, RegionAnnotation, RegionSource, Split, ViewPosition
from crrg.errors import DigestMismatch, TrainingError
from crrg.inference.visibility import Visibility
from crrg.models.detector import load_detector
from crrg.models.region_heads import load_selector
from crrg.storage import Storage
from crrg.training.checkpoint import read_stage
from crrg.training.detector import detect_films, detection_metrics, train_detector, visibility_record
from crrg.training.generator import train_generator
from crrg.training.region_targets import RegionTargets
from crrg.training.selector import RegionBatch, build_selector, selector_loss, train_selector
from crrg.training.tracker import NullTracker
from crrg.training.visibility import visibility_cases

FORM = TrainStageConfig(dataset="few", num_steps=2, device="cpu")
CPU = torch.device("cpu")


class Recorder(NullTracker):
    """Keeps pictures and metrics."""

    run_id = "run-1"

    def __init__(self) -> None:
        self.pictures: dict[str, bytes] = {}
        self.metrics: dict[str, float] = {}

    def log_picture(self, name: str, png: bytes) -> None:
        self.pictures[name] = png

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.metrics.update(metrics)


def make_pair(number: int, split: Split, *, annotated: bool = True) -> Pair:
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (80, 96), dtype=np.uint8)
    regions = tuple(
        RegionAnnotation(
            region,
            (float(5 * (i % 6)), float(10 * (i // 6)), 5.0 * (i % 6) + 30 + number, 10.0 * (i // 6) + 30),
            ("Small effusion." if number % 2 else "Clear.") if i % 3 == 0 else None,
            bool(number % 2) if i % 3 == 0 else None,
            RegionSource.SCENE_GRAPH,
        )
        for i, region in enumerate(REGIONS)
    )
    return Pair(
        patient_id=f"p{number}",
        study_id=f"s{number}",
        instance_id=f"i{number}",
        film=Film(pixels, 96, 80, ViewPosition.PA, None, False, hashlib.sha256(pixels.tobytes()).digest()),
        report=Report(findings="Small effusion." if number % 2 else "Clear."),
        regions=regions if annotated else (),
        labels={"Pleural Effusion": number % 2, "Edema": 0} if annotated else {},
        label_source="report",
        source="folder",
        source_digest=bytes(32),
        split=split,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    storage = Storage(str(tmp_path_factory.mktemp("root")))
    pairs = [make_pair(n, Split.TRAIN) for n in range(8)] + [make_pair(n, Split.VALIDATION) for n in range(20, 24)]
    dataset = write_dataset(storage, "few", pairs, {})
    tracker = Recorder()
    detector = train_detector(FORM, dataset, storage, tracker)
    selector = train_selector(FORM, dataset, detector, storage, tracker)
    return {"storage": storage, "dataset": dataset, "tracker": tracker, "detector": detector, "selector": selector}


def test_detector_is_measured_beside_the_mean_box(trained: dict[str, Any]) -> None:
    result: StageResult = trained["detector"]
    assert set(result.metrics) == {
        "detection/mean_iou", "detection/mean_box_iou", "detection/worst_region_iou", "detection/detected_share",
    }  # fmt: skip
    assert 0.5 < result.metrics["detection/mean_box_iou"] < 1, "boxes of these films hardly differ"
    assert result.run_id == "run-1"
    picture = cv2.imdecode(np.frombuffer(trained["tracker"].pictures["detector_boxes.png"], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (512, 512, 3)


def test_detector_comes_back_from_the_store(trained: dict[str, Any]) -> None:
    model = load_detector(*read_stage(trained["storage"], trained["detector"]), CPU)
    found = model.detect(torch.zeros(1, 1, 128, 128, dtype=torch.uint8))
    assert found.input_boxes_xyxy.shape == (1, 29, 4)
    # the mean training box of the first region: 30 + 3.5 wide, 30 high, film of 96 x 80 laid into 128
    assert model.prior_boxes[0].tolist() == pytest.approx([0, 10, 33.5 * 128 / 96, 10 + 30 * 107 / 80], abs=0.1)


def test_detector_says_what_its_scores_mean(trained: dict[str, Any]) -> None:
    config, _ = read_stage(trained["storage"], trained["detector"])
    visibility = Visibility.from_config(config)
    assert visibility is not None
    films = load_films(trained["storage"], trained["dataset"], Split.VALIDATION, 128)
    model = load_detector(*read_stage(trained["storage"], trained["detector"]), CPU)
    cases = visibility_cases(films, lambda images: detect_films(model, images, CPU).scores.numpy(), FORM.seed)
    shown = visibility.probabilities(cases.scores)[cases.visible == 1]
    assert (cases.visible[:4] == 1).all(), "films as they are show what is annotated"
    assert (cases.visible[4:] == 0).any()
    assert (shown >= visibility.threshold).mean() >= 0.99
    assert visibility_record(model, films, CPU, FORM.seed)["visibility"] == config["visibility"]


def test_a_selector_for_which_unmentioned_is_absent_learns_of_findings_that_no_label_denies(
    trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, dataset = trained["storage"], trained["dataset"]
    targets: list[RegionTargets] = []
    monkeypatch.setattr("crrg.training.selector.build_selector", _keeping(targets))
    absent = FORM.model_copy(update={"selector": SelectorOverrides(unmentioned_absent=True)})
    result = train_selector(absent, dataset, trained["detector"], storage, NullTracker())
    assert result.prefix != trained["selector"].prefix
    lesion, oedema = LABELS.index("Lung Lesion"), LABELS.index("Edema")
    assert (targets[0].study[:, lesion] == 0).all(), "no report of these films mentions a lesion"
    assert (targets[0].findings[:, 1, [lesion, oedema]] == 0).all(), "nor does any region without a phrase show one"
    silent = FORM.model_copy(update={"selector": SelectorOverrides(unmentioned_absent=False)})
    again = train_selector(silent, dataset, trained["detector"], storage, NullTracker())
    assert again.reused, "what was trained before the setting was there is found again"


def _keeping(targets: list[RegionTargets]) -> Any:
    def build(settings: SelectorTraining, found: RegionTargets, *rest: Any) -> Any:
        targets.append(found)
        return build_selector(settings, found, *rest)

    return build


def test_selector_is_measured_and_its_thresholds_are_stored(trained: dict[str, Any]) -> None:
    result: StageResult = trained["selector"]
    expected = {"selection/f1", "selection/always_select_f1", "abnormality/auc", "region_findings/mean_auc"}
    assert expected <= set(result.metrics)
    assert result.metrics["selection/always_select_f1"] == pytest.approx(2 * 10 / (10 + 29))
    config, tensors = read_stage(trained["storage"], result)
    assert config["trained_on"] == {"detector": trained["detector"].sha256}
    assert set(config["thresholds"]["findings"]) == set(LABELS)
    assert 0 < config["thresholds"]["selection"] < 1
    outputs = load_selector(config, tensors, CPU)(torch.zeros(1, 1, 128, 128), torch.zeros(1, 29, 4))
    assert outputs.features.shape == (1, 29, config["architecture"]["feature_size"])


def test_finished_stages_are_reused(trained: dict[str, Any]) -> None:
    storage, dataset = trained["storage"], trained["dataset"]
    again = train_detector(FORM, dataset, storage, NullTracker())
    assert again.reused
    assert again.sha256 == trained["detector"].sha256
    assert train_selector(FORM, dataset, again, storage, NullTracker()).reused
    other_detector = trained["detector"].model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DigestMismatch):
        train_selector(FORM, dataset, other_detector, storage, NullTracker())


def test_data_without_annotation_is_refused(trained: dict[str, Any], tmp_path: Path) -> None:
    storage = trained["storage"]
    blind: DatasetRef = write_dataset(
        storage, "blind", [make_pair(n, Split.TRAIN, annotated=False) for n in range(2)], {}
    )
    with pytest.raises(TrainingError, match="annotated region; run crrg ground --model BUNDLE first, or"):
        train_detector(FORM, blind, storage, NullTracker())
    with pytest.raises(TrainingError, match="phrase or a known label"):
        train_selector(FORM, blind, trained["detector"], storage, NullTracker())
    with pytest.raises(TrainingError, match="region phrase; run crrg ground, or"):
        train_generator(FORM, blind, trained["detector"], trained["selector"], storage, NullTracker())


def test_nothing_is_measured_without_annotated_films(trained: dict[str, Any]) -> None:
    model = load_detector(*read_stage(trained["storage"], trained["detector"]), CPU)
    nobody = load_films(trained["storage"], trained["dataset"], Split.TEST, 128)
    assert detection_metrics(model, nobody, CPU) == {}


def test_batch_without_any_target_has_zero_loss(trained: dict[str, Any]) -> None:
    model = load_selector(*read_stage(trained["storage"], trained["selector"]), CPU).train()
    nothing = torch.full((2, 29), float("nan"))
    batch = RegionBatch(
        torch.zeros(2, 1, 128, 128), torch.zeros(2, 29, 4), nothing, nothing,
        torch.full((2, 29, 14), float("nan")), torch.full((2, 14), float("nan")),
    )  # fmt: skip
    loss, parts = selector_loss(model, SelectorTraining())(batch)
    loss.backward()
    assert loss.item() == 0
    assert set(parts) == {"selection", "abnormal", "findings", "study"}
