"""Films that stand for many are taken from all over them: of an archive the first ones are one clinic's."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from crrg.config.references import StageResult
from crrg.config.training import GeneratorTraining, TrainStageConfig
from crrg.data.dataset.batches import FilmTable, load_films
from crrg.data.dataset.pairs import write_dataset
from crrg.data.dataset.spaced import sampled_films
from crrg.domain.labels import LABELS, NUM_LABELS
from crrg.domain.regions import NUM_REGIONS, REGIONS
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, RegionAnnotation, RegionSource, Split, ViewPosition
from crrg.evaluation.scorecard import Scorecard
from crrg.operations.scoring import visibility as scored_visibility
from crrg.storage import Storage
from crrg.training import detector, generator, paper_stages, visibility
from crrg.training.loop import FitOutcome
from crrg.training.tracker import NullTracker

NUM_FILMS, MOST, MOST_SCORED = 120, 5, 24
CPU = torch.device("cpu")


def make_pair(number: int) -> Pair:
    film = Film(np.full((8, 8), number, np.uint8), 8, 8, ViewPosition.PA, None, False, bytes([number] * 32))
    split = Split.VALIDATION if number < NUM_FILMS else Split.TRAIN
    region = RegionAnnotation(REGIONS[0], (0.0, 0.0, 4.0, 4.0), "Clear.", False, RegionSource.SCENE_GRAPH)
    return Pair(
        patient_id=f"p{number}", study_id=f"s{number}", instance_id=f"{number:03d}", film=film,
        report=Report(findings="Clear."), regions=(region,), labels=dict.fromkeys(LABELS, 0), label_source="drawn",
        source="phantom", source_digest=bytes([number] * 32), split=split,
    )  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Any:
    storage = Storage(str(tmp_path_factory.mktemp("root")))
    return storage, write_dataset(storage, "rows", [make_pair(number) for number in range(NUM_FILMS + 2)], {})


@pytest.fixture
def films() -> FilmTable:
    """Return 40 films whose pictures say their number; odd ones are not annotated."""
    boxes = np.tile(np.array([1, 1, 6, 6], np.float32), (40, NUM_REGIONS, 1))
    boxes[1::2] = np.nan
    return FilmTable(
        images=np.tile(np.arange(40, dtype=np.uint8)[:, None, None], (1, 8, 8)),
        original_sizes=np.full((40, 2), 8, np.int32),
        input_boxes_xyxy=boxes,
        phrases=[{} for _ in range(40)],
        is_abnormal=np.zeros((40, NUM_REGIONS), np.int8),
        labels=np.zeros((40, NUM_LABELS), np.int8),
        reports=[""] * 40,
        texts=[Report()] * 40,
        patient_ids=[f"p{row}" for row in range(40)],
        instance_ids=[f"i{row}" for row in range(40)],
    )


def assert_spread(numbers: list[int], out_of: int) -> None:
    assert [number * MOST // out_of for number in numbers] == list(range(MOST))


def test_visibility_is_learnt_from_annotated_films_all_over_the_table(
    films: FilmTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visibility, "MAX_FILMS", MOST)
    seen: list[list[int]] = []

    def score(images: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        seen.append(images.max(axis=(1, 2)).tolist())
        return np.zeros((len(images), NUM_REGIONS))

    cases = visibility.visibility_cases(films, score, seed=3)
    assert_spread(seen[0], 40)
    assert all(number % 2 == 0 for number in seen[0])
    assert cases.patient_ids == [f"p{number}" for number in seen[0]] * 2
    assert (cases.visible[:MOST] == 1).all()


def test_the_shape_is_measured_on_films_all_over_the_table(films: FilmTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "NUM_CALIBRATION_FILMS", MOST)
    seen: list[int] = []

    def find(images: torch.Tensor) -> Any:
        seen.extend(images.amax(dim=(1, 2, 3)).tolist())
        none = torch.zeros(len(images), NUM_REGIONS)
        return SimpleNamespace(input_boxes_xyxy=none[..., None].expand(-1, -1, 4), scores=none, detected=none)

    model: Any = SimpleNamespace(
        find=find,
        architecture=SimpleNamespace(input_size=8),
        shape_prior=SimpleNamespace(calibrate=lambda found, boxes: None),
    )
    detector.calibrate_shape(model, films, CPU, seed=3)
    assert_spread(seen, 40)


def test_an_unannotated_table_says_nothing_of_visibility(films: FilmTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visibility, "MAX_FILMS", MOST)
    blind = replace(films, input_boxes_xyxy=np.full_like(films.input_boxes_xyxy, np.nan))
    assert detector.visibility_record(None, blind, CPU, 0) == {}  # type: ignore[arg-type]


def test_a_generator_is_scored_on_films_all_over_the_split_and_learns_without_those_it_has_read(
    drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, dataset = drawn
    tables: list[FilmTable] = []
    read: list[weakref.ref[Any]] = []

    class Read(SimpleNamespace):
        order: Any = ()

    def read_films(load: Any, *_: Any) -> Any:
        tables.append(load(8))
        table = SimpleNamespace(texts=["Clear."], is_seen=np.ones(1, bool))
        found = Read(films=SimpleNamespace(), phrases=lambda: table)
        read.append(weakref.ref(found))
        return found

    class Begun(Exception):
        pass

    def begin(*_: Any, validation: Any, **__: Any) -> tuple[None, FitOutcome]:
        assert read[0]() is None, "films and readings of the training split are gone"
        assert validation is read[1]()
        return None, FitOutcome(num_steps=7, duration_s=1.0, best_step=4)

    class Figures(NullTracker):
        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            assert step == 7, "patience had ended it there"
            raise Begun

    settings = GeneratorTraining(num_validation_films=MOST_SCORED)
    replaced = {
        "read_films": read_films, "fit_generator": begin, "stage_hash": lambda *_: "0", "report_order": lambda _: (),
        "add_text_only": lambda table, *_: table, "vocabulary_of": lambda *_: None,
        "replace": lambda found, order: found,
        "generator_settings": lambda _: settings, "tuned": lambda *_: None, "score_generator": lambda *_: {},
    }  # fmt: skip
    for name, value in replaced.items():
        monkeypatch.setattr(generator, name, value)
    form, upstream = TrainStageConfig(device="cpu"), cast(StageResult, None)
    with pytest.raises(Begun):
        generator.train_generator(form, dataset, upstream, upstream, storage, Figures())
    assert [len(table) for table in tables] == [2, MOST_SCORED]
    wanted = [pair.instance_id for pair, _ in sampled_films(storage, dataset, Split.VALIDATION, MOST_SCORED)]
    assert tables[1].instance_ids == wanted
    assert max(int(each) for each in wanted) >= NUM_FILMS // 2


def test_the_papers_stages_are_scored_on_films_all_over_the_split(drawn: Any) -> None:
    finder: Any = SimpleNamespace(architecture=SimpleNamespace(input_size=8))
    train, validation = paper_stages._films(*drawn, finder, MOST_SCORED)
    assert len(train) == 2
    wanted = [pair.instance_id for pair, _ in sampled_films(*drawn, Split.VALIDATION, MOST_SCORED)]
    assert validation.instance_ids == wanted
    assert paper_stages._films(*drawn, finder)[1].instance_ids == load_films(*drawn, Split.VALIDATION, 8).instance_ids


def test_visibility_is_scored_on_annotated_films_all_over_the_split(
    drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def cases(films: FilmTable, *_: Any) -> Any:
        seen.append(films.instance_ids)

    monkeypatch.setattr(scored_visibility, "MAX_FILMS", MOST_SCORED)
    monkeypatch.setattr(scored_visibility, "visibility_cases", cases)
    monkeypatch.setattr(scored_visibility, "visibility_figures", lambda *_: [])
    detector = SimpleNamespace(
        architecture=SimpleNamespace(input_size=8, score_threshold=0.5), parameters=lambda: iter([torch.zeros(1)])
    )
    pipeline: Any = SimpleNamespace(visibility=object(), detector=detector)
    scorecard = Scorecard("test", 0, (), ())
    scored_visibility.with_visibility(
        scorecard, pipeline, drawn[1], drawn[0], Split.VALIDATION, is_scored=lambda pair: int(pair.instance_id) % 3 == 0
    )
    (numbers,) = ([int(each) for each in films] for films in seen)
    assert len(numbers) == MOST_SCORED
    assert all(number % 3 == 0 for number in numbers)
    assert max(numbers) >= NUM_FILMS * 3 // 4, "not the first ones"
