"""A bundle holds a stage only beside the parts it was trained on, as far as the stage notes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from crrg.config.base import STAGES
from crrg.config.references import StageResult
from crrg.errors import ModelError
from crrg.registry.composing import write_bundle
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, read_stage
from tests.support.stand_in_bundle import stand_in_stage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def noting(storage: Storage, name: str, seed: int, read: Mapping[str, StageResult], **config: Any) -> StageResult:
    """Return a stand-in that notes the parts it was trained on."""
    result = stand_in_stage(storage, name, seed)
    key = f"{result.prefix}/config.json"
    trained_on = {part: each.sha256 for part, each in read.items()}
    storage.put_json(key, {**storage.get_json(key), "trained_on": trained_on, **config})
    return result


def trained_parts(storage: Storage, **selector: Any) -> dict[str, StageResult]:
    """Return four stages that were trained one on another."""
    detector = stand_in_stage(storage, "detector", 1)
    heads = noting(storage, "selector", 2, {"detector": detector}, **selector)
    generator = noting(storage, "generator", 3, {"detector": detector, "selector": heads})
    return {"detector": detector, "selector": heads, "generator": generator, "clip": stand_in_stage(storage, "clip", 4)}


def bundle_id(storage: Storage, parts: Mapping[str, StageResult]) -> str:
    return write_bundle(storage, parts, dataset_version="d1", image_size=64).bundle_id


def refusal(storage: Storage, parts: Mapping[str, StageResult]) -> str:
    with pytest.raises(ModelError) as refused:
        bundle_id(storage, parts)
    return str(refused.value)


def test_parts_that_were_trained_together_are_a_bundle(storage: Storage) -> None:
    parts = trained_parts(storage)
    assert bundle_id(storage, parts)
    other_clip = {**parts, "clip": stand_in_stage(storage, "clip", 5)}
    assert bundle_id(storage, other_clip), "it reads films and texts, not what other parts give"


def test_a_generator_beside_another_selector_is_refused_by_name_with_the_way_out(storage: Storage) -> None:
    parts = trained_parts(storage)
    other = noting(storage, "selector", 7, {"detector": parts["detector"]})
    message = refusal(storage, {**parts, "selector": other})
    noted, given = parts["selector"].sha256[:16], other.sha256[:16]
    assert (
        f"the generator checkpoints/generator/03 was trained on a selector with digest {noted}, not on "
        f"checkpoints/selector/07 ({given})" in message
    )
    assert "give the parts that were trained together" in message
    assert "or train again on the parts given" in message


def test_everything_that_was_trained_on_another_detector_is_named(storage: Storage) -> None:
    parts = trained_parts(storage)
    message = refusal(storage, {**parts, "detector": stand_in_stage(storage, "detector", 8)})
    assert re.findall(r"the (\w+) checkpoints/\S+ was trained on a detector", message) == ["selector", "generator"]


def test_an_imported_detector_takes_the_place_of_another_unless_its_features_are_judged(storage: Storage) -> None:
    origin = {"source": "rgrg", "part": "detector", "sha256": "0" * 64, "licence": "as published"}
    imported = noting(storage, "detector", 9, {}, imported=origin)
    own_eyes = {**trained_parts(storage, architecture={"backbone": "conv"}), "detector": imported}
    assert bundle_id(storage, own_eyes) != bundle_id(storage, trained_parts(storage))
    heads = {**trained_parts(storage, architecture={"backbone": "detector"}), "detector": imported}
    assert "the selector checkpoints/selector/02 was trained on a detector" in refusal(storage, heads)


def test_stages_that_note_nothing_are_taken_as_they_are(storage: Storage) -> None:
    parts: dict[str, StageResult] = {name: stand_in_stage(storage, name, n) for n, name in enumerate(STAGES, 1)}
    assert bundle_id(storage, {**parts, "selector": stand_in_stage(storage, "selector", 9)})


def test_a_finished_stage_notes_what_it_was_trained_on_anew(storage: Storage) -> None:
    before = {"architecture": {}, "trained_on": {"detector": "of an earlier training"}}
    detector = stand_in_stage(storage, "detector")
    folder = StageFolder(storage, "selector", "abc", "d1")
    result = folder.finish(nn.Linear(1, 1), before, {}, trained_on={"detector": detector})
    assert read_stage(storage, result)[0]["trained_on"] == {"detector": detector.sha256}
    alone = StageFolder(storage, "detector", "abc", "d1").finish(nn.Linear(1, 1), {"architecture": {}}, {})
    assert "trained_on" not in read_stage(storage, alone)[0]
