"""What of a stage's settings names its folder: all that decides its outcome, under the names of before."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from crrg.config.base import STAGES, Preset, Recipe
from crrg.config.presets import stage_training
from crrg.storage import hash_json
from crrg.training.hashed_settings import hashed_settings


def with_loop(settings: Any, **changes: Any) -> Any:
    return settings.model_copy(update={"loop": settings.loop.model_copy(update=changes)})


@pytest.mark.parametrize("recipe", get_args(Recipe))
@pytest.mark.parametrize("preset", get_args(Preset))
def test_settings_of_a_preset_have_the_hash_they_always_had(preset: Preset, recipe: Recipe) -> None:
    training = stage_training(preset, recipe)
    for stage in STAGES:
        settings = getattr(training, stage)
        assert hash_json(hashed_settings(settings)) == hash_json(settings.model_dump()), stage


def test_what_is_told_and_kept_on_the_way_decides_nothing() -> None:
    settings = stage_training("tiny", "crrg").selector
    hashed = hashed_settings(settings)
    assert hashed_settings(with_loop(settings, log_every=7, checkpoint_every_s=900.0)) == hashed
    assert hashed_settings(with_loop(settings, learning_rate=0.5)) != hashed
    assert "balanced_share" not in hashed_settings(settings, without=("balanced_share",))


def test_a_training_that_ends_between_scores_is_another_one_since_its_last_step_is_scored() -> None:
    settings = with_loop(stage_training("tiny", "crrg").clip, num_steps=100)
    assert "last_step" not in hashed_settings(with_loop(settings, validate_every=20))
    assert hashed_settings(with_loop(settings, validate_every=30))["last_step"] == "scored"
    epochs = with_loop(settings, validate_every=20).model_copy(update={"num_epochs": 3})
    assert hashed_settings(epochs)["last_step"] == "scored", "of epochs the steps are not known yet"
