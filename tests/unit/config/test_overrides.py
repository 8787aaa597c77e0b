"""What a form may change of the stages: merged in one place, keyed by the result, refused where it makes no sense."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from crrg.cli.running import form
from crrg.config import overrides
from crrg.config.models import DetectorArchitecture, GeneratorArchitecture
from crrg.config.overrides import DetectorArchitectureOverrides, GeneratorArchitectureOverrides, Overrides
from crrg.config.paper import PAPER_DETECTOR, PAPER_GENERATOR, PAPER_SELECTOR, narrow_detector
from crrg.config.presets import clip_training, stage_training
from crrg.config.references import DatasetRef, StageResult
from crrg.config.resolved import (
    check_settings,
    clip_settings,
    detector_settings,
    generator_settings,
    keep_changes,
    selector_settings,
)
from crrg.config.running import RetrainConfig
from crrg.config.training import InitialWeights, TrainStageConfig
from crrg.errors import ConfigError
from crrg.operations.training.retrain import pin_dataset
from crrg.operations.training.train import fit_stage
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder
from crrg.training.tracker import NullTracker

BLOCKS = sorted(
    (
        value
        for value in vars(overrides).values()
        if isinstance(value, type) and issubclass(value, Overrides) and value is not Overrides
    ),
    key=lambda block: block.__name__,
)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_a_block_has_the_fields_of_what_it_changes(block: type[Overrides]) -> None:
    for name, field in block.model_fields.items():
        theirs = block.of.model_fields[name].annotation
        if isinstance(field.annotation, type) and issubclass(field.annotation, Overrides):
            assert field.annotation.of is theirs
            continue
        choices = {choice for part in get_args(field.annotation) if part is not NoneType for choice in get_args(part)}
        if len(get_args(field.annotation)) == 2 and theirs in get_args(field.annotation):
            continue
        assert choices, f"{name}: another type than the settings'"
        assert choices < set(get_args(theirs)), f"{name}: choices that the settings do not know"


@pytest.mark.parametrize(("preset", "recipe"), list(itertools.product(("tiny", "small", "base"), ("crrg", "paper"))))
def test_a_form_without_changes_is_the_preset_and_every_preset_is_valid(preset: Any, recipe: Any) -> None:
    config = TrainStageConfig(preset=preset, recipe=recipe)
    ours = stage_training(preset, recipe)
    assert detector_settings(config) == ours.detector
    assert selector_settings(config) == ours.selector
    assert generator_settings(config) == ours.generator
    assert clip_settings(config) == clip_training(preset, recipe)
    changed = TrainStageConfig(preset=preset, recipe=recipe, clip={"draft_share": 0.25})
    assert clip_settings(changed) == clip_training(preset, recipe).model_copy(update={"draft_share": 0.25})


def test_the_base_preset_has_the_published_sizes_and_the_others_fit_together() -> None:
    base = stage_training("base", "paper")
    assert base.detector.architecture == PAPER_DETECTOR
    assert base.selector.architecture == PAPER_SELECTOR
    assert base.generator.architecture == PAPER_GENERATOR.model_copy(update={"freeze_language_model": False})
    rates = [stage.loop.learning_rate for stage in (base.detector, base.selector, base.generator)]
    assert rates == [1e-3, 5e-5, 5e-5]
    assert {stage.loop.batch_size * stage.loop.accumulate for stage in (base.detector, base.generator)} == {64}
    for architecture in (narrow_detector(1, size) for size in (32, 64, 128)):
        sides = itertools.product(architecture.anchor_sizes, architecture.anchor_ratios)
        assert all(round(size * min(ratio, 1 / ratio) ** 0.5 / 2) >= 1 for size, ratio in sides), (
            "an anchor of no width"
        )
    for preset, channels in (("tiny", 8), ("small", 16)):
        narrowed = stage_training(preset, "paper")
        assert narrowed.detector.architecture.resnet_width == channels
        assert narrowed.selector.architecture.width == 32 * channels
        assert narrowed.selector.architecture.feature_size == narrowed.generator.architecture.feature_size


def test_a_file_switches_on_what_a_preset_leaves_off(tmp_path: Path) -> None:
    file = tmp_path / "form.toml"
    file.write_text(
        """
        [clip]
        draft_share = 0.3
        uncertain = "soft"
        [clip.loop]
        batch_size = 1024
        [clip.contrast]
        kind = "sigmoid"
        cached_rows = 64
        [clip.sampling]
        num_views = 2
        [clip.architecture]
        image_tower = "swin"
        projection = "mlp"
        logit_bias = true
        [generator.loop]
        ema_decay = 0.99
        validate_every = 50
        patience = 3
        accumulate = 2
        [selector]
        balanced_share = 0.5
        [detector.loop]
        freeze_normalisation = true
        """
    )
    for config in (form(TrainStageConfig, file, seed=3), form(RetrainConfig, file, seed=3).stage_config()):
        clip = clip_settings(config)
        assert (clip.draft_share, clip.uncertain, clip.loop.batch_size) == (0.3, "soft", 1024)
        assert (clip.contrast.kind, clip.contrast.cached_rows, clip.sampling.num_views) == ("sigmoid", 64, 2)
        assert clip.contrast.multi_positive, "what is not given stays"
        tower = clip.architecture
        assert (tower.image_tower, tower.projection, tower.logit_bias) == ("swin", "mlp", True)
        loop = generator_settings(config).loop
        assert (loop.ema_decay, loop.validate_every, loop.patience, loop.accumulate) == (0.99, 50, 3, 2)
        assert selector_settings(config).balanced_share == 0.5
        assert detector_settings(config).loop.freeze_normalisation
        assert config.seed == 3


def test_a_stage_of_its_own_goes_before_what_holds_for_all() -> None:
    config = TrainStageConfig(num_steps=7, learning_rate=0.5, clip={"loop": {"num_steps": 9}})
    assert clip_settings(config).loop.num_steps == 9
    assert detector_settings(config).loop.num_steps == 7
    assert clip_settings(config).loop.learning_rate == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip": {"contrast": {"kind": "sigmoid"}}}, r"needs architecture\.logit_bias = true"),
        ({"clip": {"contrast": {"text_weight": 0.5}}}, r"clip: .*needs sampling\.num_texts = 2"),
        ({"clip": {"architecture": {"image_tower": "vit"}}}, r"clip\.architecture: .*takes one number in image_layers"),
        ({"clip": {"draft_share": 1.5}}, r"clip\.draft_share: .*less than or equal to 1"),
        ({"clip": {"num_epochs": 2}, "num_steps": 9}, "remove one of them"),
        ({"generator": {"loop": {"patience": 2}}}, r"generator\.loop\.patience.*set validate_every as well"),
        (
            {"num_steps": 30, "detector": {"loop": {"validate_every": 40, "patience": 2}}},
            r"detector\.loop\.patience: .*after the last of 30 steps; set validate_every \(now 40\)",
        ),
        (
            {"detector": {"architecture": {"pyramid_channels": 32, "anchor_sizes": (20, 40)}}},
            r"detector\.architecture: .*pyramid_channels needs 3 anchor_sizes or more",
        ),
        (
            {"recipe": "paper", "detector": {"architecture": {"pyramid_channels": 32}}},
            r"detector\.architecture\.pyramid_channels: the recipe `paper` has no .*pyramid_channels; .*remove",
        ),
        ({"detector": {"architecture": {"anchor_sizes": []}}}, r"architecture\.anchor_sizes: .*at least 1 item"),
        ({"detector": {"architecture": {"anchor_sizes": [1, 2, 0]}}}, r"anchor_sizes: .*a number above 0, got 0"),
        ({"detector": {"architecture": {"anchor_ratios": []}}}, r"architecture\.anchor_ratios: .*at least 1 item"),
        ({"detector": {"architecture": {"anchor_ratios": [0.0]}}}, r"anchor_ratios: .*a number above 0, got 0"),
        ({"detector": {"architecture": {"anchor_ratios": [math.inf]}}}, r"anchor_ratios: .*above 0, got inf"),
        ({"clip": {"architecture": {"pixel_std": [0.0]}}}, r"clip\.architecture\.pixel_std: .*above 0, got 0"),
        ({"clip": {"architecture": {"image_heads": [0, 1, 1, 1]}}}, r"image_heads: .*above 0, got 0"),
        ({"clip": {"augmentation": {"crop_area": [-1, 0.5]}}}, r"augmentation: .*both 0 or more, got \(-1, 0\.5\)"),
        ({"detector": {"augmentation": {"crop_area": [0.9, 0.0]}}}, r"augmentation: .*the largest, .*got \(0\.9, 0\)"),
        (
            {"generator": {"lora_rank": 4}},
            r"set initial_weights\.generator and .*freeze_language_model, or lora_rank to 0",
        ),
        ({"generator": {"lora_rank": 4}, "recipe": "paper"}, "the recipe `paper` has no lora_rank"),
        (
            {"generator": {"architecture": {"condition_on_report": True, "condition_on_findings": False}}},
            r"generator\.architecture: .*condition_on_report needs condition_on_findings = true",
        ),
        (
            {
                "generator": {"architecture": {"condition_on_report": True, "condition_on_findings": True}},
                "recipe": "paper",
            },
            r"has no architecture\.condition_on_findings, architecture\.condition_on_report; it knows",
        ),
        ({"generator": {"architecture": {"feature_size": 64}}}, r"set selector\.architecture\.feature_size and"),
        (
            {"generator": {"architecture": {"num_heads": 3}}},
            r"generator\.architecture: .*num_heads must divide hidden_size",
        ),
        (
            {
                "recipe": "paper",
                "detector": {"architecture": {"resnet_width": 4}},
                "selector": {"architecture": {"width": 256}},
            },
            r"selector\.architecture\.width: it is 256 in the form, .* \(resnet_width 4, .*on 128; remove",
        ),
        (
            {"recipe": "paper", "selector": {"architecture": {"feature_size": 64}}},
            r"set selector\.architecture\.feature_size and",
        ),
        ({"initial_weights": {"selector": "x", "detector": "x"}}, "empty, or use the recipe `paper`"),
        (
            {"recipe": "paper", "initial_weights": {"selector": "x", "generator": "x"}},
            r"initial_weights\.selector: .*set initial_weights\.detector to that folder as well",
        ),
        (
            {"recipe": "paper", "initial_weights": {"detector": "x", "generator": "x"}},
            r"initial_weights\.generator: .*set initial_weights\.selector to that folder as well",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_settings(("detector", "selector", "generator", "clip"), TrainStageConfig(**changes))
    with pytest.raises(ConfigError, match=message):
        pin_dataset(RetrainConfig(dataset="nowhere", **changes), Storage("/nonexistent"))


def test_a_search_of_drafts_that_cannot_be_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(ConfigError, match=r"decoding\.num_beams: Input should be greater than or equal to 1"):
        pin_dataset(RetrainConfig(dataset="nowhere", decoding={"num_beams": -1}), Storage("/nonexistent"))


def test_an_unknown_field_names_those_there_are() -> None:
    with pytest.raises(ValidationError, match="no such field: kindd; this block has kind, view_weight"):
        RetrainConfig(clip={"contrast": {"kindd": "sigmoid"}})


def test_changes_that_imported_weights_overrule_are_refused() -> None:
    imported = GeneratorArchitecture(num_layers=24)
    keep_changes(GeneratorArchitectureOverrides(num_layers=24), imported, "generator.architecture")
    with pytest.raises(ConfigError, match="num_layers is 2 in the form and 24 in the imported weights; remove it"):
        keep_changes(GeneratorArchitectureOverrides(num_layers=2), imported, "generator.architecture")
    keep_changes(DetectorArchitectureOverrides(pyramid_channels=0), DetectorArchitecture(), "detector.architecture")
    with pytest.raises(ConfigError, match="pyramid_channels is 8 in the form and 0 in the imported weights"):
        keep_changes(DetectorArchitectureOverrides(pyramid_channels=8), DetectorArchitecture(), "detector.architecture")
    with pytest.raises(ConfigError, match="condition_on_report is True in the form and False in the imported weights"):
        keep_changes(GeneratorArchitectureOverrides(condition_on_report=True), imported, "generator.architecture")
    frozen = InitialWeights(generator="x", freeze_language_model=True)
    assert generator_settings(TrainStageConfig(initial_weights=frozen, generator={"lora_rank": 4})).lora_rank == 4
    check_settings(
        ("generator",),
        TrainStageConfig(
            initial_weights=InitialWeights(generator="x"), generator={"architecture": {"feature_size": 64}}
        ),
    )


@pytest.mark.parametrize(
    ("stage", "change", "same"),
    [
        ("detector", {"loop": {"ema_decay": 0.5}}, {"loop": {"ema_decay": 0.0}}),
        ("detector", {"architecture": {"pyramid_channels": 0}}, {"architecture": {"pyramid_channels": 56}}),
        ("selector", {"balanced_share": 0.5}, {"balanced_share": 0.0}),
        ("generator", {"loop": {"accumulate": 2}}, {"abnormal_share": 0.5}),
        ("generator", {"architecture": {"condition_on_report": True}}, {"lora_rank": 0}),
        ("clip", {"contrast": {"cached_rows": 8}}, {"draft_share": 0.5}),
    ],
)
def test_a_finished_stage_is_found_by_the_settings_that_the_changes_come_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: Any, change: dict[str, Any], same: dict[str, Any]
) -> None:
    """Through the stage's own function, which looks for a finished result before it reads anything."""
    dataset = DatasetRef(name="d", version="v", manifest_key="", num_rows={})
    finished = {
        name: StageResult(stage=name, prefix=f"checkpoints/{name}/0", sha256=name, config_hash="0")
        for name in ("detector", "selector")
    }
    monkeypatch.setattr(StageFolder, "result", lambda folder: folder.config_hash)

    def key(block: dict[str, Any]) -> Any:
        return fit_stage(
            stage, TrainStageConfig(**{stage: block}), dataset, finished, Storage(str(tmp_path)), NullTracker()
        )

    assert key({}) == key(same)
    assert key({}) != key(change)


def test_positions_looked_up_among_the_words_need_as_many_words() -> None:
    with pytest.raises(ValidationError, match="vocab_size >= max_length is needed"):
        GeneratorArchitecture(position_table="wte", vocab_size=300, max_length=512)
    assert GeneratorArchitecture(position_table="wte", vocab_size=512, max_length=512).max_length == 512
