"""Readings of the classification benchmark: what a night drafts, found again only where nothing else decided them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from benchmarks.classification import towers
from benchmarks.classification.readings import SplitReadings, read_split
from benchmarks.classification.towers import tower_settings, train_tower
from crrg.config.references import DatasetRef
from crrg.data.dataset.batches import load_films
from crrg.data.dataset.pairs import resolve_dataset
from crrg.data.dataset.spaced import sampled_films
from crrg.domain.regions import NUM_REGIONS, REGIONS
from crrg.domain.report import Report
from crrg.domain.study import DraftReport, Film, Pair, Split
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.visibility import Visibility
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder
from tests.support.drawn_bundle import draw_dataset, train_bundle


@dataclass(frozen=True)
class World:
    storage: Storage
    dataset: DatasetRef
    pipeline: ReportPipeline
    known: list[tuple[Pair, Film]]
    drafts: list[DraftReport]
    read: SplitReadings


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    home = tmp_path_factory.mktemp("readings")
    storage = Storage(str(home / "root"))
    draw_dataset(storage, home / "source", "drawn", 0.5, 0.25)
    bundle = read_bundle(storage, train_bundle(storage, "drawn"))
    pipeline = ReportPipeline.from_bundle(bundle, torch.device("cpu"))
    # half of the regions are never visible, and what the film shows as a whole counts for each of them
    biases = np.where(np.arange(NUM_REGIONS) % 2 == 0, 50.0, -50.0)
    decoding = pipeline.decoding.model_copy(update={"reconcile": True, "rerank": True, "num_beams": 2})
    calibration = replace(pipeline.calibration, thresholds=np.full_like(pipeline.calibration.thresholds, 1e-6))
    pipeline = replace(
        pipeline,
        decoding=decoding,
        calibration=calibration,
        visibility=Visibility(np.full(NUM_REGIONS, 1e-3), biases, 0.5),
    )
    dataset = resolve_dataset(storage, "drawn")
    known = list(sampled_films(storage, dataset, Split.VALIDATION))
    drafts = pipeline.draft([film for _, film in known])
    read = read_split(pipeline, storage, dataset, Split.VALIDATION, "readings")
    return World(storage, dataset, pipeline, known, drafts, read)


def test_what_is_scored_is_what_a_night_drafts(world: World) -> None:
    assert [(row["findings"], row["impression"]) for row in world.read.rows] == [
        (draft.findings, draft.impression) for draft in world.drafts
    ]
    for row, draft in zip(world.read.rows, world.drafts, strict=True):
        worded = {REGIONS.index(each.region): each.phrase for each in draft.regions if each.phrase}
        assert {int(region): entry["drafted"] for region, entry in row["hypotheses"].items()} == worded
        assert worded
        assert all(region % 2 == 0 for region in worded), "nothing is said of what a film does not show"
    made = world.pipeline.make_drafts([film for _, film in world.known])
    assert np.array_equal(world.read.arrays["flags"], made.flags.astype(np.float32))
    assert np.array_equal(world.read.arrays["selected"], made.selected)


def test_as_many_films_as_before_are_another_folder_of_readings(world: World) -> None:
    few = read_split(world.pipeline, world.storage, world.dataset, Split.VALIDATION, "readings", limit=1)
    assert len(few.rows) == 1 < len(world.read.rows)
    again = read_split(world.pipeline, world.storage, world.dataset, Split.VALIDATION, "readings")
    assert again.rows == world.read.rows


def test_a_tower_takes_up_no_states_of_another_text_or_label(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[str] = []

    def noted(*_: object, folder: StageFolder, **__: object) -> None:
        folders.append(folder.prefix)

    monkeypatch.setattr(towers, "fit", noted)
    films = load_films(world.storage, world.dataset, Split.TRAIN, 128)
    training = tower_settings(1)
    name = films.instance_ids[0]
    other_text = replace(films, texts=[Report(findings="A word."), *films.texts[1:]])
    other_label = replace(films, labels=np.roll(films.labels, 1, axis=1))
    for given, drafts in (
        (films, None),
        (films, None),
        (other_text, None),
        (other_label, None),
        (films, {name: "Drafted by one bundle."}),
        (films, {name: "Drafted by another bundle."}),
    ):
        train_tower(given, training, world.storage, "real", drafts=drafts)
    assert folders[0] == folders[1]
    assert len(set(folders)) == 5
