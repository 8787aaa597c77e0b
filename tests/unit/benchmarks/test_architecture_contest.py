"""``paper`` beside ``crrg``: matched sizes, used up budgets, figures of several runs, and a call that was stopped."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.generation_quality import architectures, budget, contest_scores, matching
from benchmarks.generation_quality.architectures import Arena, Contest
from benchmarks.generation_quality.budget import Limit
from benchmarks.generation_quality.contenders import Order, Parts
from benchmarks.generation_quality.contest_report import contest_tables
from benchmarks.generation_quality.contest_scores import FIGURES, mean_over_regions, summarise
from benchmarks.generation_quality.jury import Jury
from benchmarks.generation_quality.matching import PARTS, compare_sizes, narrow_to, networks_of
from benchmarks.generation_quality.variants import VARIANTS, with_other_maps
from benchmarks.resumable import Table
from crrg.config.base import Preset
from crrg.config.models import DecodingSettings
from crrg.config.presets import preset_training
from crrg.config.training import PresetTraining
from crrg.data.dataset.pairs import read_pairs, write_dataset
from crrg.domain.labels import NUM_LABELS
from crrg.domain.regions import NUM_REGIONS, REGIONS
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, RegionAnnotation, RegionSource, Split, ViewPosition
from crrg.inference.calibration import Calibration
from crrg.inference.consistency import SimilarityCurve
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.regions import RegionThresholds
from crrg.models.clip import ClipModel
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import RegionSelector
from crrg.operations.scoring.cases import Case
from crrg.storage import Storage
from tests.support.drawn_night import draft_of
from tests.support.labelled_pair import labelled
from tests.support.smallest_stages import smallest


def test_the_paper_is_narrowed_to_our_size_within_a_tenth() -> None:
    ours = preset_training("tiny")
    sizes = compare_sizes(ours, narrow_to(ours, 900), 900)
    for part in ("detector and selector", "generator", "all"):
        assert sizes[part]["paper"] == pytest.approx(sizes[part]["crrg"], rel=0.1), part
    assert sizes["all"]["paper"] == sum(sizes[part]["paper"] for part in ("detector", "selector", "generator"))


def test_sizes_that_differ_are_refused_with_a_way_out() -> None:
    ours = preset_training("tiny")
    with pytest.raises(AssertionError, match=r"detector and selector: \d+ parameters beside \d+.*--paper-channels"):
        compare_sizes(ours, narrow_to(ours, 900, base_channels=16), 900)


@pytest.mark.parametrize(("preset", "has_pyramid"), [("tiny", True), ("small", False)])
def test_other_maps_leave_the_size_of_the_detector_and_all_else(preset: Preset, has_pyramid: bool) -> None:
    ours = preset_training(preset)
    variant = with_other_maps(ours)
    architecture = variant.detector.architecture
    assert (ours.detector.architecture.pyramid_channels > 0) == has_pyramid
    assert (architecture.pyramid_channels > 0) != has_pyramid
    assert (architecture.roi_channels > 0) == has_pyramid
    changes = {name: getattr(ours.detector.architecture, name) for name in ("pyramid_channels", "roi_channels")}
    assert architecture.model_copy(update=changes) == ours.detector.architecture
    assert variant.model_copy(update={"detector": ours.detector}) == ours
    sizes = compare_sizes(ours, networks_of(variant, 900), 900, "crrg with other-maps")
    assert sizes["detector"]["crrg with other-maps"] == pytest.approx(sizes["detector"]["crrg"], rel=0.1)


def test_variants_of_another_size_are_refused() -> None:
    ours = preset_training("tiny")
    with pytest.raises(AssertionError, match=r"detector and selector: .* more than 10% apart; look elsewhere"):
        compare_sizes(ours, networks_of(preset_training("small"), 900), 900, "small", "look elsewhere")


def test_knowing_the_report_changes_the_generator_alone_and_by_less_than_a_tenth() -> None:
    for ours in (preset_training("tiny"), preset_training("small")):
        variant = VARIANTS["context"](ours)
        assert variant.generator.architecture.condition_on_report
        words = variant.generator.architecture.model_copy(update={"condition_on_report": False})
        generator = variant.generator.model_copy(update={"architecture": words})
        assert variant.model_copy(update={"generator": generator}) == ours
        sizes = compare_sizes(ours, networks_of(variant, 900), 900, "crrg with context")
        assert sizes["generator"]["crrg"] < sizes["generator"]["crrg with context"]


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("no-region-identity", ("selector",)),
        ("no-flags", ("generator",)),
        ("token-table-positions", ("generator",)),
        ("balanced-films", ("selector",)),
        ("averaged-weights", ("detector", "selector", "generator")),
    ],
)
def test_a_variant_changes_its_stages_alone_and_hardly_their_size(
    preset: Preset, name: str, stages: tuple[str, ...]
) -> None:
    ours = preset_training(preset)
    variant = VARIANTS[name](ours)
    assert all(getattr(variant, part) != getattr(ours, part) for part in stages)
    assert variant.model_copy(update={part: getattr(ours, part) for part in stages}) == ours
    compare_sizes(ours, networks_of(variant, 900), 900, name)


def sums(hits: float) -> dict[str, list[list[float]]]:
    """Twelve films of six patients; every decision has ``hits`` of two found and two wanted."""
    region = [[hits / 2] * NUM_REGIONS + [1.0] * NUM_REGIONS] * 12
    rows = {kind: [[hits, 2.0, 2.0]] * 12 for kind, _ in FIGURES.values()}
    return rows | {
        "iou": region,
        "detected": [[hits, 2.0]] * 12,
        "bleu": [[1.0] * 10] * 12,
        "rouge": [[hits / 2, 1.0]] * 12,
    }


def test_figures_are_means_over_seeds_and_differences_of_the_same_patients() -> None:
    found = summarise({"crrg": [sums(2.0), sums(1.0)], "paper": [sums(0.0), sums(1.0)]}, list("aabbccddeeff"))
    for name in ("mean region IoU", "detected share", "selection F1", "clinical micro recall", "ROUGE-L"):
        figure = found[name]
        assert figure["crrg"]["seeds"] == pytest.approx([1.0, 0.5])
        assert figure["crrg"]["mean"] == pytest.approx(0.75)
        assert figure["difference"]["mean"] == pytest.approx(0.5)
        assert figure["difference"]["low"] == pytest.approx(0.5), "patients do not differ"
    mixed = sums(1.0)
    mixed["selection"] = [[2.0, 2.0, 2.0]] * 6 + [[0.0, 2.0, 2.0]] * 6
    spread = summarise({"crrg": [mixed], "paper": [sums(1.0)]}, list("aabbccddeeff"))["selection F1"]
    assert (spread["difference"]["low"], spread["difference"]["high"]) == pytest.approx((-1 / 3, 1 / 3))


def test_a_region_that_no_film_shows_does_not_count() -> None:
    total = np.array([2.0] + [0.0] * (NUM_REGIONS - 1) + [4.0] + [0.0] * (NUM_REGIONS - 1))
    assert mean_over_regions(total) == pytest.approx(0.5)
    assert np.isnan(mean_over_regions(np.zeros(2 * NUM_REGIONS)))


def settings() -> PresetTraining:
    """Return networks that the paper's smallest has the size of, two films a step."""
    stages = smallest()
    few = stages.detector.loop.model_copy(update={"batch_size": 2})
    wider = stages.selector.architecture.model_copy(update={"feature_size": 64, "roi_size": 6, "detail_channels": 14})
    words = stages.generator.architecture.model_copy(update={"hidden_size": 32})
    quick = DecodingSettings(num_beams=1, max_tokens=6)
    return stages.model_copy(
        update={
            "detector": stages.detector.model_copy(update={"loop": few}),
            "selector": stages.selector.model_copy(update={"architecture": wider, "loop": few}),
            "generator": stages.generator.model_copy(update={"architecture": words, "decoding": quick}),
        }
    )


def make_pair(number: int, split: Split) -> Pair:
    pixels = np.random.default_rng(number).integers(0, 256, (64, 64), dtype=np.uint8)
    text = "Small effusion." if number % 2 else "The lungs are clear."
    regions = tuple(
        RegionAnnotation(
            region, (float(i), float(i), 30.0 + i, 34.0 + i), f"{text} Seen at the {region}." if i % 3 == 0 else None,
            bool(number % 2), RegionSource.SCENE_GRAPH,
        )
        for i, region in enumerate(REGIONS)
    )  # fmt: skip
    return Pair(
        patient_id=f"p{number}",
        study_id=f"s{number}",
        instance_id=f"i{number}",
        film=Film(pixels, 64, 64, ViewPosition.PA, None, False, hashlib.sha256(pixels.tobytes()).digest()),
        report=Report(findings=text),
        regions=regions,
        labels={"Pleural Effusion": number % 2},
        label_source="report",
        source="folder",
        source_digest=bytes(32),
        split=split,
    )


def open_arena(folder: Path, is_over: Any, **about: Any) -> Arena:
    root = Storage(str(folder / "root"))
    pairs = [make_pair(n, Split.TRAIN) for n in range(6)] + [make_pair(n, Split.VALIDATION) for n in range(10, 12)]
    pairs += [make_pair(n, Split.TEST) for n in range(20, 22)]
    dataset = write_dataset(root, "few", pairs, {})
    contest = Contest(settings(), 0.01, 1, 1, dataset, root, rates=(1e-3,))
    return Arena(replace(contest, **about), Table(folder / "pieces.json"), Storage(str(folder / "work")), is_over)


def label_stage(arena: Arena) -> ReportPipeline:
    """Return a pipeline whose label stage is untrained, and whose other stages are replaced when a run is scored."""
    prefix = arena.run_keys()["crrg"][0]
    parts = arena.load(arena.table.rows[prefix]["parts"])
    ones = np.ones(NUM_LABELS)
    return ReportPipeline(
        bundle_id="none", detector=parts.detector, selector=parts.selector, generator=parts.generator,
        tokenizer=arena.films.tokenizer, clip=ClipModel(smallest().clip.architecture).eval(),
        clip_tokenizer=arena.films.tokenizer, thresholds=parts.thresholds,
        calibration=Calibration(ones, 0 * ones, ones), similarity=SimilarityCurve(1.0, 0.0),
        decoding=DecodingSettings(),
    )  # fmt: skip


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimate the pace from one step, and match the sizes once."""
    monkeypatch.setattr(budget, "NUM_PROBED", 2)
    monkeypatch.setattr(budget, "NUM_SLOW", 1)
    narrowed = functools.cache(lambda _ours, vocab_size, channels: narrow_to(settings(), vocab_size, channels))
    monkeypatch.setattr(architectures, "narrow_to", lambda _ours, *sizes: narrowed(None, *sizes))


def test_drafts_are_not_held_against_reports_that_nobody_could_read() -> None:
    film = Film(np.zeros((40, 50), np.uint8), 50, 40, ViewPosition.PA, None, False, b"")
    read = labelled({"Edema": 1}, "There is pulmonary edema.", "report")
    cases = [Case(replace(pair, film=film), draft_of(film)) for pair in (read, labelled({}, "Lungenödem.", "none"))]
    region = (len(cases), NUM_REGIONS)
    nothing = np.zeros(region, dtype=bool)
    texts = ["There is pulmonary edema and a fracture."] * 2
    answers = contest_scores.Answers(np.zeros((*region, 4)), nothing, nothing, nothing, texts, texts)
    assert contest_scores.film_sums(cases, answers)["clinical"] == [[1.0, 2.0, 1.0], [0.0, 0.0, 0.0]]


@pytest.mark.usefixtures("quick")
def test_trials_that_were_stopped_go_on_with_the_next(tmp_path: Path) -> None:
    looks = iter([False])
    assert open_arena(tmp_path, lambda: next(looks, True)).tune("crrg") is None
    arena = open_arena(tmp_path, lambda: False)
    before = dict(arena.table.rows)
    assert len(before) == 2, "sizes and one training"
    assert "Not finished" in contest_tables(before)[0]
    assert arena.tune("crrg") == {"detector": 1e-3, "selector": 1e-3, "generator": 1e-3}
    assert {name: arena.table.rows[name] for name in before} == before
    assert len(arena.table.rows) == 4
    assert open_arena(tmp_path, lambda: True).tune("crrg") is not None, "nothing is left to begin"


def open_arena_of_variants(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, variants: tuple[str, ...] = ("other-maps",), **about: object
) -> Arena:
    monkeypatch.setattr(architectures, "narrow_to", lambda ours, vocab_size, _: networks_of(ours, vocab_size))
    stages = settings()
    sizes = {"anchor_sizes": (8, 16, 24), "anchor_ratios": (0.5, 1.0), "pyramid_channels": 8, "roi_channels": 0}
    levelled = stages.detector.architecture.model_copy(update=sizes)
    stages = stages.model_copy(update={"detector": stages.detector.model_copy(update={"architecture": levelled})})
    return open_arena(folder, lambda: False, settings=stages, variants=variants, **about)


def test_a_variant_is_trained_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arena = open_arena_of_variants(tmp_path, monkeypatch, with_paper=False)
    order = Order(1e-3, 0, Limit(num_steps=1))
    parts, effort = arena.contender("crrg with other-maps").train("detector", Parts(), arena.films, order)
    assert effort.num_steps == 1
    assert parts.detector is not None
    again = arena.load({"detector": arena._keep("key", "detector", parts)}).detector
    assert again is not None
    assert again.architecture.pyramid_channels == 0
    films = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    assert torch.equal(again.detect(films).input_boxes_xyxy, parts.detector.detect(films).input_boxes_xyxy)


def test_a_variant_that_knows_the_report_is_trained_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "TOLERANCE", 0.5)  # beside the smallest generator the encoder is not small
    arena = open_arena_of_variants(tmp_path, monkeypatch, with_paper=False, variants=("context",))
    stages = arena.contest.settings
    known = RegionThresholds(0.5, 0.5, 0.5, np.full(NUM_LABELS, 0.5, np.float32))
    finder, reader = RegionDetector(stages.detector.architecture), RegionSelector(stages.selector.architecture)
    before = Parts(finder.eval(), reader.eval(), None, known)
    order = Order(1e-3, 0, Limit(num_steps=1))
    parts, effort = arena.contender("crrg with context").train("generator", before, arena.films, order)
    assert effort.num_steps == 1
    assert parts.generator is not None
    again = arena.load({"generator": arena._keep("key", "generator", parts)}).generator
    assert again is not None
    assert again.architecture.condition_on_report
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in parts.generator.state_dict().items())


def test_stages_before_the_first_that_differs_are_those_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With trainings that are given, since only which are begun is looked at."""

    def trained(_: Arena, key: str, name: str, part: str, before: dict[str, Any], order: Order) -> dict[str, Any]:
        return {"parts": {**before, part: key}, "rate": order.rate, "score": 0.5, "num_steps": 7}

    monkeypatch.setattr(Arena, "_train", trained)
    monkeypatch.setattr(matching, "TOLERANCE", 0.5)
    arena = open_arena_of_variants(tmp_path, monkeypatch, with_paper=False, variants=("context",))
    assert arena.train_all()
    own = [key.removeprefix(f"{arena.prefix}/") for key in arena.table.rows if "/crrg with context" in key]
    assert {key.split("/")[2] for key in own if key.startswith("trial")} == {"generator"}
    assert [key for key in own if key.startswith(("run", "steps")) and not key.endswith("/generator")] == []
    for run in ("run/crrg with context/0", "steps/crrg with context"):
        parts = arena.table.rows[f"{arena.prefix}/{run}/generator"]["parts"]
        assert parts["selector"] == f"{arena.prefix}/run/crrg/0/selector"
        assert parts["detector"] == f"{arena.prefix}/run/crrg/0/detector"


def with_given_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings and scores are given, so that only what is compared with what is looked at."""

    def trained(_: Arena, key: str, name: str, part: str, before: dict[str, Any], order: Order) -> dict[str, Any]:
        num_steps = order.limit.num_steps or {"crrg": 7, "paper": 9, "crrg with other-maps": 5}[name]
        effort = {"cpu_s": 0.0, "num_steps": num_steps, "num_planned": num_steps}
        return {"parts": {**before, part: key}, "rate": order.rate, "score": 0.5, **effort}

    def scored(_: Jury, __: str, name: str) -> dict[str, Any]:
        return {"sums": sums(2.0 if name == "crrg with other-maps" else 1.0), "never_right": []}

    monkeypatch.setattr(Arena, "_train", trained)
    monkeypatch.setattr(Jury, "_score", scored)
    monkeypatch.setattr(
        Jury, "_baselines", lambda _: {"always normal": {"sums": sums(0.0), "text": {}, "sentences": {}}}
    )
    few = functools.partial(contest_scores.bootstrap_sums, num_samples=9)
    monkeypatch.setattr(contest_scores, "bootstrap_sums", few)


ROW = "| selection F1 | 1.000 (1.000 to 1.000) | 0.500 (0.500 to 0.500) | 0.500 (0.500 to 0.500) | 1.000 | 0.500 |"


def tables_of(arena: Arena) -> str:
    pairs = [make_pair(number, Split.TEST) for number in range(12)]
    assert Jury(arena, pairs, lambda: pytest.fail("nothing is drafted")).score_all()
    (text,) = contest_tables(arena.table.rows)
    return text


def test_without_a_budget_all_are_trained_as_the_preset_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_given_runs(monkeypatch)
    arena = open_arena_of_variants(tmp_path, monkeypatch, with_paper=False, budget_s=0.0)
    assert arena.train_all()
    loops = {part: getattr(arena.contest.settings, part).loop for part in PARTS}
    runs = {key: row for key, row in arena.table.rows.items() if "/run/" in key}
    assert len(runs) == 2 * 3 * arena.contest.num_seeds
    for key, row in runs.items():
        loop = loops[key.rsplit("/", 1)[1]]
        assert (row["num_steps"], row["rate"]) == (loop.num_steps, loop.learning_rate), key
    text = tables_of(arena)
    assert "each trained as the preset says" in text
    assert "`crrg with other-maps` beside `crrg`, the difference is what it gains. At the preset's steps" in text
    assert "equal steps" not in text
    assert text.count(ROW) == 1


@pytest.mark.parametrize("with_paper", [False, True])
def test_a_variant_is_tuned_repeated_and_scored_as_ours(
    with_paper: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_given_runs(monkeypatch)
    arena = open_arena_of_variants(tmp_path, monkeypatch, with_paper=with_paper)
    assert arena.train_all()
    own = [name.removeprefix(f"{arena.prefix}/") for name in arena.table.rows]
    by_name = {
        name: sorted(key.replace(name, "*") for key in own if f"/{name}/" in key)
        for name in ("crrg", "paper", "crrg with other-maps")
    }
    assert by_name["crrg with other-maps"] == sorted({*by_name["crrg"], *(f"steps/*/{part}" for part in PARTS)})
    assert bool(by_name["paper"]) == with_paper
    steps = {name: arena.table.rows[f"{arena.prefix}/steps/{name}/selector"]["num_steps"] for name in arena._paced_by()}
    assert steps == {"crrg with other-maps": 7, **({"crrg": 7, "paper": 7} if with_paper else {})}
    text = tables_of(arena)
    for title in ("At equal CPU time", "At equal steps"):
        assert f"`crrg with other-maps` beside `crrg`, the difference is what it gains. {title}" in text
    assert text.count(ROW) == 2
    assert ("| figure | crrg | paper | difference |" in text) == with_paper
    assert "| parameters | crrg | crrg with other-maps | ratio |" in text


@pytest.mark.e2e
@pytest.mark.full
@pytest.mark.usefixtures("quick")
def test_a_comparison_that_was_stopped_goes_on_and_ends_in_tables(tmp_path: Path) -> None:
    looks = iter([False] * 4)
    assert not open_arena(tmp_path, lambda: next(looks, True)).train_all(), "stopped within the paper's trials"
    arena = open_arena(tmp_path, lambda: False)
    before = dict(arena.table.rows)
    assert len(before) == 5, "sizes and four trainings"
    assert "Not finished" in contest_tables(before)[0]
    assert arena.train_all()
    assert {name: arena.table.rows[name] for name in before} == before
    steps = [arena.table.rows[f"{arena.prefix}/steps/{name}/generator"]["num_steps"] for name in ("crrg", "paper")]
    assert steps[0] == steps[1]
    pairs = list(read_pairs(arena.contest.root, arena.contest.dataset, Split.TEST))
    assert Jury(arena, pairs, lambda: label_stage(arena)).score_all()
    (text,) = contest_tables(arena.table.rows)
    assert "| mean region IoU |" in text
    assert "At equal steps" in text
    again = open_arena(tmp_path, lambda: True)
    assert again.train_all(), "nothing is left to begin"
