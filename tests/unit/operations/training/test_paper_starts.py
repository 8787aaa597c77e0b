"""The recipe ``paper`` begun from a published model: all parts of one import, or none that read what another gives."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from crrg.config import presets
from crrg.config.base import STAGES, Settings
from crrg.config.paper import narrow_detector, narrow_generator, narrow_selector
from crrg.config.references import StageResult
from crrg.config.running import RetrainConfig
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.pairs import resolve_dataset
from crrg.data.tokenizer import train_tokenizer
from crrg.errors import ConfigError, ModelError
from crrg.importers.imported import ImportedStage, write_import
from crrg.importers.licences import LICENCES
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import FeatureSelector
from crrg.models.report_generator import ReportGenerator
from crrg.operations.registry.assemble import assemble_bundle
from crrg.operations.training import train
from crrg.operations.training.retrain import pin_dataset
from crrg.registry.bundle import read_bundle
from crrg.registry.imported import read_import
from crrg.storage import Storage
from crrg.training import paper_stages
from crrg.training.checkpoint import read_stage
from crrg.training.initial_weights import find_start
from crrg.training.paper_stages import build_heads
from crrg.training.paper_starts import check_paper_starts, paper_generator_start, paper_selector_start
from crrg.training.tracker import NullTracker
from tests.support.drawn_bundle import draw_dataset
from tests.support.smallest_stages import Unregistered, noting_start, remembered, smallest_paper

PHRASES = ["the left lung is clear without effusion", "a small right pleural effusion has grown since"]
FINDER = narrow_detector(4, 64)
HEADS = narrow_selector(4, 64, 24)
"""Of another length of features than the preset's."""
REGION_STAGES = STAGES[:3]


def write_model(folder: Path, seed: int) -> str:
    """Write what `crrg import rgrg` does of a narrowed model of random weights."""
    torch.manual_seed(seed)
    vocabulary = train_tokenizer(PHRASES, 320)
    words = narrow_generator(16, 1, 4, HEADS.feature_size, vocabulary.vocab_size, 64)
    modules = (RegionDetector(FINDER), FeatureSelector(HEADS), ReportGenerator(words))
    spelling = {"tokenizer_sha256": vocabulary.sha256}, {"tokenizer.json": vocabulary.to_bytes()}
    extras: tuple[tuple[dict[str, str], dict[str, bytes]], ...] = (({}, {}), ({}, {}), spelling)
    stages = [
        ImportedStage(name, module, {"architecture": module.architecture.model_dump(mode="json"), **about}, {}, files)
        for name, module, (about, files) in zip(REGION_STAGES, modules, extras, strict=True)
    ]
    write_import(stages, folder, "rgrg", LICENCES["rgrg"])
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two published models, and a copy of the first in another place."""
    home = tmp_path_factory.mktemp("published")
    found = {name: write_model(home / name, seed) for seed, name in enumerate(("model", "other"))}
    shutil.copytree(found["model"], home / "copy")
    return {**found, "copy": str(home / "copy")}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """A root with a dataset, and the smallest preset."""
    home = tmp_path_factory.mktemp("begun")
    root = Storage(str(home / "root"))
    draw_dataset(root, home / "source", "drawn", 0.5, 0.25)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._PRESETS, "tiny", smallest_paper)
        patch.setattr(train, "open_tracker", remembered)
        patch.setattr(train, "ModelRegistry", Unregistered)
        yield root


def form_of(**changes: Any) -> RetrainConfig:
    return RetrainConfig(dataset="drawn", device="cpu", num_steps=2, recipe="paper", **changes)


@dataclass(frozen=True)
class Begun:
    stages: tuple[StageResult, ...]
    before: dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def begun(storage: Storage, folders: dict[str, str]) -> Begun:
    """All stages, trained from the parts of one import, and the whole networks before their first steps."""
    before: dict[str, dict[str, Tensor]] = {}

    # the copy counts as the import that it is a copy of
    weights = {"detector": folders["model"], "selector": folders["copy"], "generator": folders["model"]}
    form = pin_dataset(form_of(initial_weights=weights), storage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper_stages, "fit", noting_start(paper_stages.fit, before))
        stages = train.train_stages(form.stages(), form.stage_config(), storage, Settings(root=storage.root))
    return Begun(stages, before)


def imported(folder: str, part: str) -> dict[str, Tensor]:
    return load(read_import(Path(folder), part)[1]["model.safetensors"])


def test_heads_and_words_start_from_the_import_behind_its_detector(
    begun: Begun, storage: Storage, folders: dict[str, str]
) -> None:
    heads, words = (imported(folders["model"], part) for part in ("selector", "generator"))
    assert set(heads) >= {"dim_reduction.weight", "selection.0.weight", "abnormal.4.bias"}
    assert all(torch.equal(begun.before["selector"][f"selector.{name}"], each) for name, each in heads.items())
    started = begun.before["generator"]
    assert all(torch.equal(started[f"generator.{name}"], each) for name, each in words.items())
    _, data = read_stage(storage, begun.stages[1])
    learnt = load(data)
    assert not torch.equal(learnt["dim_reduction.weight"], heads["dim_reduction.weight"])
    assert all(torch.equal(started[f"selector.{name}"], each) for name, each in learnt.items()), "and learns on"


def test_a_bundle_names_the_import_behind_each_part_that_learnt_on(begun: Begun, storage: Storage) -> None:
    files = read_bundle(storage, assemble_bundle(begun.stages, "d1", 64, storage)).files
    card = files["model_card.md"].decode()
    for part in REGION_STAGES:
        assert re.search(rf"\| {part} \| {part} of rgrg \| `[0-9a-f]{{16}}` \| {re.escape(LICENCES['rgrg'])} \|", card)


@pytest.mark.parametrize(
    ("given", "refused", "missing"),
    [
        ({"generator": "model"}, "generator", "selector"),
        ({"detector": "copy", "generator": "model"}, "generator", "selector"),
        ({"detector": "model", "selector": "model", "generator": "other"}, "generator", "selector"),
        ({"detector": "other", "selector": "model"}, "selector", "detector"),
    ],
)
def test_a_part_is_refused_behind_another_that_does_not_start_from_its_import(
    folders: dict[str, str], tmp_path: Path, given: dict[str, str], refused: str, missing: str
) -> None:
    form = form_of(initial_weights={part: folders[name] for part, name in given.items()})
    message = rf"initial_weights\.{refused}: .*set initial_weights\.{missing} to that folder as well, or leave"
    root = Storage(str(tmp_path))  # without a dataset, so that nothing was trained where this is said
    with pytest.raises(ConfigError, match=message):
        train.train_stage("generator", form.stage_config(), root, Settings(root=root.root))
    with pytest.raises(ConfigError, match=message):
        pin_dataset(form, root)
    with pytest.raises(ConfigError, match="there is no such dataset version"):
        pin_dataset(form.model_copy(update={"stages_on": "deployment"}), root)


def test_a_finished_part_says_itself_what_it_started_from(
    begun: Begun, storage: Storage, folders: dict[str, str]
) -> None:
    """Whatever the form says that the parts before were trained with."""
    dataset, parts = resolve_dataset(storage, "drawn"), {each.stage: each for each in begun.stages}
    names = ("detector", "selector", "generator")
    form = form_of(initial_weights=dict.fromkeys(names, folders["other"])).stage_config()
    with pytest.raises(ConfigError, match=r"initial_weights\.selector: the imported selector reads the features"):
        paper_stages.train_paper_selector(form, dataset, parts["detector"], storage, NullTracker())
    with pytest.raises(ConfigError, match=r"initial_weights\.generator: the imported generator reads the features"):
        paper_stages.train_paper_generator(form, dataset, parts, storage, NullTracker())


def test_random_heads_take_the_sizes_of_an_imported_detector(storage: Storage, tmp_path: Path) -> None:
    wider = narrow_detector(6, 64)
    config = {"architecture": wider.model_dump(mode="json")}
    write_import([ImportedStage("detector", RegionDetector(wider), config, {})], tmp_path, "rgrg", LICENCES["rgrg"])
    form = form_of(initial_weights={"detector": str(tmp_path)}).stage_config()
    check_paper_starts(REGION_STAGES, form)
    heads, start = paper_selector_start(form, config)
    assert start is None
    assert (heads.architecture.width, heads.architecture.feature_size) == (192, 64)
    other = TrainStageConfig.model_validate({**form.model_dump(), "selector": {"architecture": {"width": 128}}})
    with pytest.raises(ConfigError, match="width is 128 in the form and 192 in the imported weights; remove it"):
        train.train_stage("selector", other, storage, Settings(root=storage.root))


def test_words_of_random_weights_read_features_of_the_length_that_imported_heads_give(
    storage: Storage, folders: dict[str, str]
) -> None:
    form = form_of(initial_weights={"detector": folders["model"], "selector": folders["model"]}).stage_config()
    words, start = paper_generator_start(form, {"architecture": HEADS.model_dump(mode="json")})
    assert start is None
    assert words.architecture.feature_size == 24
    other = TrainStageConfig.model_validate({**form.model_dump(), "generator": {"architecture": {"feature_size": 64}}})
    with pytest.raises(ConfigError, match="feature_size is 64 in the form and 24 in the imported weights"):
        check_paper_starts(REGION_STAGES, other)


def test_heads_of_other_shapes_are_refused(folders: dict[str, str]) -> None:
    start = find_start(folders["model"], ("selector",), "selector")
    with pytest.raises(ModelError, match="the imported selector does not fit this network"):
        build_heads(HEADS.model_copy(update={"feature_size": 32}), start)
    with pytest.raises(ModelError, match="not written by `crrg import`"):
        check_paper_starts(
            REGION_STAGES, form_of(initial_weights=dict.fromkeys(("detector", "selector"), "x")).stage_config()
        )
