"""The CLIP and joint stages from a stored dataset to a finished folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crrg.config.presets import clip_training, preset_training
from crrg.config.references import DatasetRef
from crrg.config.training import ClipTraining, LoopConfig, TrainStageConfig
from crrg.data.dataset.batches import load_films
from crrg.data.dataset.pairs import write_dataset
from crrg.data.tokenizer import PhraseTokenizer
from crrg.domain.labels import LABELS
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, RegionAnnotation, RegionSource, Split, ViewPosition
from crrg.errors import TrainingError
from crrg.inference.calibration import Calibration
from crrg.inference.consistency import SimilarityCurve
from crrg.models.clip import ClipModel, load_clip
from crrg.storage import Storage
from crrg.training import clip
from crrg.training.checkpoint import read_stage
from crrg.training.clip import train_clip
from crrg.training.clip_validation import film_outputs, fit_similarity, validate, validation_loss
from crrg.training.joint import train_joint
from crrg.training.tracker import NullTracker

CONFIG = TrainStageConfig(dataset="tests", num_steps=2, device="cpu")


class Remembering(NullTracker):
    """Keeps the names of what was logged."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def log_picture(self, name: str, png: bytes) -> None:
        assert png.startswith(b"\x89PNG")
        self.names.add(name)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.names |= set(metrics)


def make_pair(number: int, split: Split, patient: str = "") -> Pair:
    rng = np.random.default_rng(number)
    is_sick = bool(number % 2)
    text = "Large left pleural effusion." if is_sick else "No acute disease."
    film = Film(
        pixels=rng.integers(0, 256, (40, 32), dtype=np.uint8),
        original_width=64,
        original_height=80,
        view_position=ViewPosition.PA,
        pixel_spacing_mm=None,
        polarity_inverted=False,
        pixel_digest=bytes([number] * 32),
    )
    region = RegionAnnotation("left costophrenic angle", (40, 50, 60, 70), text, is_sick, RegionSource.SCENE_GRAPH)
    return Pair(
        patient_id=patient or f"patient{number}",
        study_id=f"study{number}",
        instance_id=f"film{number}",
        film=film,
        report=Report(findings=text),
        regions=(region,),
        labels={**dict.fromkeys(LABELS, 0), "Pleural Effusion": int(is_sick), "No Finding": int(not is_sick)},
        label_source="drawn",
        source="phantom",
        source_digest=bytes([number] * 32),
        split=split,
    )


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    small = preset_training("tiny").clip.architecture.model_copy(
        update={"input_size": 32, "image_width": 4, "text_hidden_size": 16, "text_layers": 1, "projection_size": 8}
    )
    tiny = ClipTraining(architecture=small, loop=LoopConfig(batch_size=6))
    monkeypatch.setattr(
        clip, "resolve_training", lambda config: tiny.model_copy(update={"loop": config.loop(tiny.loop)})
    )
    return Storage(str(tmp_path))


def dataset(storage: Storage, *, leaking: bool = False) -> DatasetRef:
    pairs = [make_pair(number, Split.TRAIN, "shared" if number == 1 else "") for number in range(8)]
    pairs += [make_pair(number, Split.VALIDATION, "shared" if leaking else "") for number in range(8, 16)]
    return write_dataset(storage, "leaking" if leaking else "tests", pairs, {})


def test_a_finished_stage_has_everything_a_bundle_needs(store: Storage) -> None:
    tracker = Remembering()
    result = train_clip(CONFIG, dataset(store), store, tracker)
    config, tensors = read_stage(store, result)
    model = load_clip(config, tensors, torch.device("cpu"))
    assert model.label_logits(torch.zeros(1, 1, 32, 32)).shape == (1, 14)
    assert Calibration.from_config(config).thresholds.shape == (14,)
    assert 0 <= SimilarityCurve(**config["similarity"]).agreement(0.5) <= 1
    assert config["prompts_version"]
    assert PhraseTokenizer(store.get(f"{result.prefix}/tokenizer.json")).encode("edema")
    # two labels have both kinds of films; only one of them is a finding
    assert result.metrics["classification/mean_auc"] == result.metrics["classification/pleural_effusion_auc"]
    assert "classification/zero_shot_no_finding_auc" in result.metrics
    assert result.metrics["classification/contrastive_loss"] > 0
    assert {"clip/roc.png", "clip/reliability.png", "train/place", "classification/ece"} <= tracker.names


def test_labels_without_a_denial_are_learnt_where_unmentioned_is_absent(
    store: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [make_pair(number, Split.TRAIN) for number in range(8)]
    pairs += [make_pair(number, Split.VALIDATION) for number in range(8, 16)]
    told = [replace(pair, labels={name: 1 for name, value in pair.labels.items() if value == 1}) for pair in pairs]
    reference = write_dataset(store, "told", told, {})
    masked = train_clip(CONFIG, reference, store, NullTracker())
    assert "classification/mean_auc" not in masked.metrics, "every label that is known is positive"
    settings = clip.resolve_training(CONFIG).model_copy(update={"unmentioned_absent": True})
    monkeypatch.setattr(clip, "resolve_training", lambda _config: settings)
    absent = train_clip(CONFIG, reference, store, NullTracker())
    whole = train_clip(CONFIG, dataset(store), store, NullTracker())
    assert absent.sha256 == whole.sha256, "it learns what it would of labels that deny all the rest"
    assert absent.metrics["classification/mean_auc"] == whole.metrics["classification/mean_auc"]


def test_an_equal_run_is_reused_and_another_seed_is_not(store: Storage) -> None:
    reference = dataset(store)
    first = train_clip(CONFIG, reference, store, NullTracker())
    again = train_clip(CONFIG, reference, store, NullTracker())
    other = train_clip(CONFIG.model_copy(update={"seed": 1}), reference, store, NullTracker())
    assert again.reused
    assert again.sha256 == first.sha256
    assert not other.reused
    assert other.prefix != first.prefix


def test_the_joint_stage_trains_on_drafts_under_its_own_name(store: Storage) -> None:
    reference = dataset(store)
    plain = train_clip(CONFIG, reference, store, NullTracker())
    drafts = {f"film{number}": "Small right effusion." for number in range(8)}
    joint = train_joint(CONFIG, reference, {**drafts, "film0": " "}, store, NullTracker())
    assert joint.stage == "joint"
    assert joint.prefix.startswith("checkpoints/joint/")
    assert joint.sha256 != plain.sha256
    assert train_joint(CONFIG, reference, {**drafts, "film0": ""}, store, NullTracker()).reused


@pytest.mark.parametrize("drafts", [{}, {"film1": " "}, {"film9": "A validation film."}, {"film99": "Unknown."}])
def test_drafts_of_other_films_are_refused(store: Storage, drafts: dict[str, str]) -> None:
    with pytest.raises(TrainingError, match="draft"):
        train_joint(CONFIG, dataset(store), drafts, store, NullTracker())


def test_a_patient_in_two_splits_is_a_leak(store: Storage) -> None:
    reference = dataset(store, leaking=True)
    with pytest.raises(TrainingError, match="validation or test"):
        train_joint(CONFIG, reference, {"film1": "Edema."}, store, NullTracker())


def test_without_validation_films_nothing_is_calibrated(store: Storage) -> None:
    reference = write_dataset(store, "blind", [make_pair(number, Split.TRAIN) for number in range(4)], {})
    result = train_clip(CONFIG, reference, store, NullTracker())
    config, _ = read_stage(store, result)
    assert result.metrics == {}
    assert Calibration.from_config(config).slopes.tolist() == [1.0] * 14


def test_no_training_film_is_an_error(store: Storage) -> None:
    reference = write_dataset(store, "empty", [make_pair(1, Split.VALIDATION)], {})
    with pytest.raises(TrainingError, match="no frontal film"):
        train_clip(CONFIG, reference, store, NullTracker())


def test_of_a_text_tower_that_says_the_same_of_every_text_it_is_told(
    store: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a rate too high for a transformer, which leaves all but its last normalisation's shift at nothing."""
    pairs = [make_pair(number, Split.VALIDATION if number % 4 > 1 else Split.TRAIN) for number in range(8)]
    reference = write_dataset(store, "texts", pairs, {})
    result = train_clip(CONFIG, reference, store, NullTracker())
    assert result.metrics["classification/text_spread"] > 0.01
    build = clip.build_clip

    def collapsed(*given: Any) -> ClipModel:
        model: ClipModel = build(*given)
        model.text_projection.weight.detach().zero_()
        model.text_projection.weight.requires_grad_(False)
        return model

    monkeypatch.setattr(clip, "build_clip", collapsed)
    again = CONFIG.model_copy(update={"seed": 1})
    assert "embeds every text alike" not in caplog.text
    found = train_clip(again, reference, store, NullTracker())
    assert found.metrics["classification/text_spread"] < clip.MIN_TEXT_SPREAD
    assert "embeds every text alike" in caplog.text
    assert "another seed or a lower learning rate" in caplog.text
    caplog.clear()
    # trained by labels alone no text was ever compared
    clip.warn_of_texts(0.0, ClipTraining(contrastive_loss_weight=0))
    assert not caplog.text


def test_the_similarity_curve_tells_own_from_strange_texts() -> None:
    rng = np.random.default_rng(0)
    images = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(60, 16))), dim=1)
    noisy = torch.nn.functional.normalize(images + 0.15 * torch.from_numpy(rng.normal(size=(60, 16))), dim=1)
    ids = np.arange(60)
    curve = fit_similarity(images, noisy, ids)
    own = (images * noisy).sum(dim=1).tolist()
    strange = (images * noisy.roll(7, dims=0)).sum(dim=1).tolist()
    assert np.mean([curve.agreement(cosine) for cosine in own]) > 0.9
    assert np.mean([curve.agreement(cosine) for cosine in strange]) < 0.1
    assert fit_similarity(images[:1], noisy[:1], ids[:1]) == SimilarityCurve(slope=1.0, bias=0.0)


def test_equal_texts_are_no_strangers_to_the_similarity_curve() -> None:
    rng = np.random.default_rng(0)
    images = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(60, 16))), dim=1)
    texts = torch.nn.functional.normalize(images + 0.15 * torch.from_numpy(rng.normal(size=(60, 16))), dim=1)
    # every second film is normal: it looks alike, and has the same report
    images[::2], texts[::2] = images[0], texts[0]
    ids = np.where(np.arange(60) % 2 == 0, 0, np.arange(60))
    own = (images * texts).sum(dim=1).tolist()
    told_apart = fit_similarity(images, texts, ids)
    as_strangers = fit_similarity(images, texts, np.arange(60))
    assert np.mean([told_apart.agreement(cosine) for cosine in own]) > 0.9
    assert np.mean([as_strangers.agreement(cosine) for cosine in own]) < 0.85
    assert fit_similarity(images[::2], texts[::2], ids[::2]) == SimilarityCurve(slope=1.0, bias=0.0)


def test_films_without_report_and_impressions_leave_the_similarity_curve_as_it_is(store: Storage) -> None:
    pairs = [make_pair(number, Split.VALIDATION) for number in range(8)]
    result = train_clip(CONFIG, dataset(store), store, NullTracker())
    config, tensors = read_stage(store, result)
    model = load_clip(config, tensors, torch.device("cpu"))
    tokenizer = PhraseTokenizer(store.get(f"{result.prefix}/tokenizer.json"))
    training = clip.resolve_training(CONFIG)
    told = load_films(store, write_dataset(store, "told", pairs, {}), Split.VALIDATION, 32)
    wordy = [replace(pair, report=replace(pair.report, impression="Look again in a year.")) for pair in pairs]
    silent = [replace(make_pair(20 + number, Split.VALIDATION), report=Report()) for number in range(6)]
    more = load_films(store, write_dataset(store, "more", [*wordy, *silent], {}), Split.VALIDATION, 32)
    curves = [validate(model, tokenizer, films, training).similarity for films in (told, more)]
    assert curves[0].slope != 1.0
    assert curves[1].slope == pytest.approx(curves[0].slope, rel=1e-4)
    assert curves[1].bias == pytest.approx(curves[0].bias, rel=1e-4)


PUBLISHED = {
    "loop": {
        "batch_size": 128, "learning_rate": 5e-5, "weight_decay": 1e-4, "warmup_share": 1 / 15, "schedule": "cosine",
        "clip_norm": 0,
    },
    "architecture": {
        "image_tower": "resnet50", "input_size": 224, "pixel_mean": (0.485, 0.456, 0.406), "text_layers": 12,
        "text_hidden_size": 768, "text_vocab_size": 28996, "max_text_length": 256, "projection": "linear",
        "projection_size": 512, "clamp_temperature": False, "projects_evidence": False, "head_moves_tower": False,
    },
    "contrast": {
        "kind": "softmax", "view_weight": 1.0, "text_weight": 0.5, "label_smoothing": 0.0, "multi_positive": False
    },
    "sampling": {"num_views": 2, "num_texts": 2, "text_source": "sections", "paraphrase_share": 0.5},
    "augmentation": {
        "crop_area": (0.8, 1.1), "clahe_share": 0.5, "brightness": 0.1, "contrast": 0.2, "contrast_about": "mean",
        "noise": 0, "gamma": 0, "shift": 0, "scale": 0,
    },
}  # fmt: skip


def test_the_paper_s_recipe_is_what_was_published() -> None:
    paper = clip_training("base", "paper").model_dump()
    for part, constants in PUBLISHED.items():
        for name, value in constants.items():
            assert paper[part][name] == value, f"{part}.{name}"
    assert (paper["num_epochs"], paper["contrastive_loss_weight"]) == (15, 1.0)
    assert (paper["prompt_loss_weight"], paper["place_loss_weight"]) == (0, 0)
    assert clip_training("tiny", "crrg") == preset_training("tiny").clip


def test_the_paper_s_recipe_trains_the_preset_s_towers(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, paper = preset_training("tiny").clip, clip_training("tiny", "paper")
    assert paper.loop == ours.loop
    assert paper.architecture.image_tower == ours.architecture.image_tower
    small = paper.architecture.model_copy(
        update={"input_size": 32, "image_width": 4, "text_hidden_size": 16, "text_layers": 1, "projection_size": 8}
    )
    tiny = paper.model_copy(update={"architecture": small, "loop": LoopConfig(batch_size=6), "num_epochs": 3})
    monkeypatch.setattr(clip, "resolve_training", lambda config: tiny)
    reference = dataset(store)
    tracker = Remembering()
    result = train_clip(TrainStageConfig(dataset="tests", recipe="paper", device="cpu"), reference, store, tracker)
    assert {"train/contrastive", "train/label"} <= tracker.names
    assert not {"train/prompt", "train/place"} & tracker.names
    assert result.metrics["classification/contrastive_loss"] > 0
    form = TrainStageConfig(dataset="tests", recipe="paper")
    length = clip.resolve_length(form, tiny, num_studies=8)
    assert (length.num_steps, length.validate_every) == (6, 2), "3 epochs of 8 studies in batches of 6"
    assert "validation/score" in tracker.names
    assert clip.resolve_length(form.model_copy(update={"num_steps": 7}), tiny, 8) == tiny.loop


def test_validation_loss_is_the_same_every_time(store: Storage) -> None:
    reference = dataset(store)
    result = train_clip(CONFIG, reference, store, NullTracker())
    config, tensors = read_stage(store, result)
    model = load_clip(config, tensors, torch.device("cpu"))
    tokenizer = PhraseTokenizer(store.get(f"{result.prefix}/tokenizer.json"))
    training = clip.resolve_training(CONFIG)
    films = load_films(store, reference, Split.VALIDATION, 32)
    features = film_outputs(model, films).image_features
    losses = {validation_loss(model, tokenizer, features, films, training) for _ in range(3)}
    assert losses == {result.metrics["classification/contrastive_loss"]}
    assert len(losses) == 1
    smooth = training.model_copy(update={"contrast": training.contrast.model_copy(update={"label_smoothing": 0.3})})
    assert validation_loss(model, tokenizer, features, films, smooth) in losses, (
        "targets are smoothed in training alone"
    )
