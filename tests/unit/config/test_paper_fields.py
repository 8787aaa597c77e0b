"""What a form may change of the paper's stages: what its networks have and our code reads, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from crrg.config.flat import flatten
from crrg.config.overrides import Overrides
from crrg.config.resolved import PAPER_FIELDS, check_settings, selector_settings
from crrg.config.training import TrainStageConfig
from crrg.errors import ConfigError

OURS_ALONE: dict[str, dict[str, Any]] = {
    "detector": {
        "architecture": {
            "backbone": "conv", "width": 8, "pyramid_channels": 0, "roi_channels": 8, "added_boxes": "none",
            "spatial_prior": True, "num_refinements": 1, "score_threshold": 0.1,
        },
    },
    "selector": {
        "architecture": {
            "backbone": "conv", "detail_channels": 8, "roi_size": 4, "roi_samples": 1, "keep_layout": True,
            "margin": 0.1, "dropout": 0.1, "region_embedding": True,
        },
        "selection_pos_weight": 1.0, "abnormal_pos_weight": 1.0, "finding_pos_weight": 1.0, "finding_loss_weight": 1.0,
        "study_loss_weight": 1.0, "box_jitter": 0.1, "balanced_share": 0.1, "unmentioned_absent": True,
    },
    "generator": {
        "architecture": {"condition_on_findings": True, "condition_on_report": True},
        "decoding": {"follow_flags": True, "rerank": True, "reconcile": True},
        "abnormal_share": 0.1, "flag_dropout": 0.1, "predicted_flag_share": 0.1, "text_only_share": 0.1,
        "num_length_buckets": 2, "lora_rank": 1,
    },
}  # fmt: skip


def fields_of(block: type[Overrides]) -> dict[str, Any]:
    """Return the fields of a block, those of blocks in it as a dictionary."""
    kinds = {name: field.annotation for name, field in block.model_fields.items()}
    return {
        name: fields_of(kind) if isinstance(kind, type) and issubclass(kind, Overrides) else name
        for name, kind in kinds.items()
    }


@pytest.mark.parametrize("stage", OURS_ALONE)
def test_the_papers_stages_take_every_field_they_have_and_refuse_every_other(stage: Any) -> None:
    block = TrainStageConfig.model_fields[stage].annotation
    assert isinstance(block, type)
    assert issubclass(block, Overrides)
    all_fields = set(flatten(fields_of(block)))
    refused = set(flatten(OURS_ALONE[stage]))
    taken = {name for name in all_fields if PAPER_FIELDS[stage] & {name, name.partition(".")[0]}}
    assert taken | refused == all_fields
    assert not taken & refused
    for name in refused:
        outer, _, inner = name.partition(".")
        value = OURS_ALONE[stage][outer]
        form = TrainStageConfig(recipe="paper", **{stage: {outer: {inner: value[inner]} if inner else value}})
        with pytest.raises(ConfigError, match=rf"{stage}\.{name}: the recipe `paper` has no {name}; it knows .*remove"):
            check_settings((stage,), form)


def test_the_papers_heads_follow_their_detector() -> None:
    narrow = {"architecture": {"resnet_width": 4, "input_size": 64}}
    form = TrainStageConfig(recipe="paper", detector=narrow)
    heads = selector_settings(form).architecture
    assert (heads.width, heads.input_size) == (128, 64)
    said = TrainStageConfig(recipe="paper", detector=narrow, selector={"architecture": {"width": 128}})
    assert selector_settings(said) == selector_settings(form)
    both = {"feature_size": 40}
    fits = TrainStageConfig(recipe="paper", selector={"architecture": both}, generator={"architecture": both})
    check_settings(("detector", "selector", "generator"), fits)
