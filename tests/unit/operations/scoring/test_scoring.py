"""One scorecard of drafts: which figures it has, which regions count, and what stands beside them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crrg.config.references import BundleRef, DatasetRef
from crrg.config.running import EvaluateConfig
from crrg.domain.labels import LABELS
from crrg.domain.regions import REGION_INDEX
from crrg.domain.report import Report
from crrg.errors import ConfigError
from crrg.evaluation.detection import told_regions
from crrg.evaluation.protocols import PROTOCOLS
from crrg.evaluation.scorecard import Scorecard
from crrg.evaluation.text import score_text
from crrg.operations.scoring import evaluate
from crrg.operations.scoring.cases import Case
from crrg.operations.scoring.main_figures import ABNORMALITY_F1, BLEU_4, ROUGE_L, SELECTION_F1, main_figures
from crrg.operations.scoring.regions import region_arrays
from crrg.operations.scoring.score import score_cases
from crrg.operations.scoring.texts import with_meteor
from crrg.progress import Progress, listening
from crrg.registry.gate import CLINICAL_F1, LABEL_AUC, REGION_IOU
from crrg.storage import Storage
from crrg.training.tracker import NullTracker
from tests.support.scored_cases import CASES, HEART, SPINE, TIED, annotation, case, known
from tests.support.stand_in_meteor import STAND_IN_METEOR


@pytest.fixture(scope="module")
def scored() -> tuple[Scorecard, list[Progress]]:
    steps: list[Progress] = []
    with listening(steps.append):
        return score_cases(CASES, known(), abnormal_threshold=0.5), steps


@pytest.fixture(scope="module")
def card(scored: tuple[Scorecard, list[Progress]]) -> Scorecard:
    return scored[0]


def test_it_is_told_how_far_the_scoring_is(scored: tuple[Scorecard, list[Progress]]) -> None:
    assert [(each.what, each.num_done, each.total) for each in scored[1]] == [("scoring", n, 6) for n in range(1, 7)]


def test_every_family_of_figures_stands_beside_its_baselines(card: Scorecard) -> None:
    rivals: dict[str, list[str]] = {}
    for figure in card:
        rivals.setdefault(figure.name, []).append(figure.baseline_name)
    assert rivals[REGION_IOU] == rivals["detection/map_50"] == rivals[f"detection/compat_iou/{HEART}"] == ["mean box"]
    assert rivals["selection/f1"] == rivals["selection/normal_recall"] == ["always select", "usual regions"]
    assert rivals["abnormality/f1"] == ["all abnormal"]
    assert rivals[LABEL_AUC] == ["32x32 logistic regression", "majority"]
    texts = ["best constant report", "nearest neighbour", "always normal"]
    metrics = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "meteor_offline")
    assert all(rivals[f"{protocol}/{name}"] == texts for protocol in PROTOCOLS for name in metrics)
    assert rivals["rgrg/cider_d_given_idf"] == texts
    assert card["text/empty_share"] == 0
    assert not [name for name in rivals if name.endswith("_nonempty_only")], "no draft is empty"
    for name in ("phrase_meteor_offline", "phrase_meteor_offline_abnormal", f"phrase_meteor_offline/{HEART}"):
        assert rivals[f"rgrg/{name}"] == ["usual phrase"]
        # of what the reports speak of, drafts select the heart alone, and the usual phrase of it is the reference's
        assert 0 < card[f"rgrg/{name}"] < next(each.baseline for each in card if each.name == f"rgrg/{name}")
    assert "rgrg/phrase_meteor_offline_normal" not in rivals
    assert "rgrg/phrase_meteor_ratio_offline" not in rivals, "one region has no other to be mistaken for"
    clinical = ["best constant report", "nearest neighbour", "all positive", "always normal"]
    names = ("micro_f1", "macro_f1", "micro5_recall", "micro14_precision", "example14_f1", "edema_f1")
    assert all(rivals[f"clinical/{name}"] == clinical for name in names)
    every = np.arange(len(CASES))
    main = main_figures(CASES, known(), known().neighbours(CASES), 0.5)
    assert set(main) == {REGION_IOU, LABEL_AUC, CLINICAL_F1, BLEU_4, ROUGE_L, SELECTION_F1, ABNORMALITY_F1}
    for name, figure in main.items():
        assert card[name] == pytest.approx(figure.of_drafts(every)), "what a gate sees is what groups show"
        if figure.of_rival is not None:
            shown = next(each for each in card if (each.name, each.baseline_name) == (name, figure.rival))
            assert shown.baseline == pytest.approx(figure.of_rival(every)), name
    # no draft claims a finding, so precision has a value by convention and nothing to resample
    assert {each.name for each in card if each.low is None} == {"clinical/micro_precision", "clinical/micro5_precision"}
    assert all(each.low <= each.high for each in card if each.low is not None)
    wanted = score_text([each.draft.findings for each in CASES], [each.reference.report.findings for each in CASES])
    assert card["rgrg/bleu_4"] == wanted["rgrg/bleu_4"]
    assert card["rgrg/cider_d"] == pytest.approx(wanted["rgrg/cider_d"])
    # the nearest training film of each is itself
    beside = next(each for each in card if (each.name, each.baseline_name) == ("rgrg/bleu_1", "nearest neighbour"))
    itself = score_text(known().findings, [each.reference.report.findings for each in CASES])
    assert beside.baseline == pytest.approx(itself["rgrg/bleu_1"])


def test_patients_are_resampled_not_films(card: Scorecard) -> None:
    names = ("rgrg/rouge_l", "clinical/micro_accuracy")
    # films differ, but each patient has one of either kind, so that every sample of patients has the same value
    for figure in (next(each for each in card if each.name == name) for name in names):
        assert (figure.low, figure.high) == pytest.approx((figure.value, figure.value)), figure.name
    right = [np.mean([each.draft.labels[name] == each.reference.labels[name] for name in LABELS]) for each in CASES]
    rng, of_patients = np.random.default_rng(0), np.reshape(right, (6, 2)).mean(axis=1)
    wanted = np.quantile([of_patients[rng.integers(6, size=6)].mean() for _ in range(200)], [0.025, 0.975])
    accuracy = next(each for each in card if each.name == "classification/mean_accuracy")
    assert (accuracy.low, accuracy.high) == pytest.approx(tuple(wanted))
    alone = [replace(each, reference=replace(each.reference, patient_id=f"q{row}")) for row, each in enumerate(CASES)]
    found = {each.name: each for each in score_cases(alone, known())}
    assert all(found[name].low < found[name].value < found[name].high for name in names)


def test_a_film_whose_report_is_not_tied_to_regions_says_nothing_of_selection(card: Scorecard) -> None:
    plain = [annotation(HEART, None, None), annotation(SPINE, None, None)]
    untied = [case(number, tuple(plain)) for number in range(12, 24)]
    together = score_cases([*CASES, *untied], known())
    # drafts select the right lung and the heart; the reports speak of the heart and the left lung, not of the others
    assert card["selection/precision"] == card["selection/recall"] == 0.5
    alone_rows, rows = (
        [(each.name, each.value, each.baseline) for each in found if each.name.startswith("selection/")]
        for found in (card, together)
    )
    assert alone_rows == rows
    # always select: one wrong for each that is right
    assert next(each.baseline for each in together if each.name == "selection/precision") == 0.5
    assert not [each for each in together if each.name.startswith("abnormality/")], "no threshold was given"


def test_reports_of_empty_drafts_are_left_out_where_rgrg_leaves_them_out() -> None:
    silent = [replace(each, draft=replace(each.draft, findings=" ")) for each in CASES[:2]]
    figures = list(score_cases([*silent, *CASES[2:]], known()))
    rest = {(each.name, each.baseline_name): each for each in score_cases(CASES[2:], known())}
    told = [each for each in figures if each.name.endswith("_nonempty_only")]
    assert len(told) == 8 * 3, "metrics of `rgrg`, each beside three texts"
    for each in told:
        wanted = rest[each.name.removesuffix("_nonempty_only"), each.baseline_name]
        assert (each.value, each.baseline) == pytest.approx((wanted.value, wanted.baseline)), each.name
    card = {each.name: each.value for each in figures}
    assert card["rgrg/rouge_l_nonempty_only"] > card["rgrg/rouge_l"]
    assert not [each for each in score_cases(silent, known()) if each.name.endswith("_nonempty_only")]


def test_a_region_without_box_and_phrase_is_unknown() -> None:
    arrays = region_arrays(CASES[:1])
    assert arrays.is_told.sum() == 4
    assert arrays.is_told[0, REGION_INDEX[SPINE]]
    annotated, phrases = np.array([[True, False], [True, True]]), np.array([[False, True], [False, False]])
    assert told_regions(annotated, phrases).tolist() == [[True, True], [False, False]]


def test_meteor_is_added_where_a_jar_is_given(card: Scorecard, tmp_path: Path) -> None:
    jar = tmp_path / "meteor.jar"
    jar.write_text(STAND_IN_METEOR)
    found = with_meteor(card, CASES, known(), jar, java=(sys.executable,))
    added = list(found)[len(card.figures) :]
    assert {each.name.split("/")[1] for each in added} == {"meteor_1_5", "meteor_1_5_mean", "meteor_offline_difference"}
    assert all(each.low <= each.high for each in added if "difference" not in each.name)
    silent = [replace(each, reference=replace(each.reference, report=Report(None, None, None))) for each in CASES]
    assert with_meteor(card, silent, known(), jar, java=("no-such-java",)) == card


def test_meteor_leaves_out_what_rgrg_leaves_out(tmp_path: Path) -> None:
    jar = tmp_path / "meteor.jar"
    jar.write_text(STAND_IN_METEOR)
    nothing = Scorecard((), len(CASES))
    silent = [replace(each, draft=replace(each.draft, findings=" ")) for each in (case(12, TIED), case(13, TIED))]
    found = list(with_meteor(nothing, [*silent, *CASES], known(), jar, java=(sys.executable,)))
    told = [each for each in found if each.name.endswith("_nonempty_only")]
    plain = list(with_meteor(nothing, CASES, known(), jar, java=(sys.executable,)))
    wanted = [each for each in plain if each.name.startswith("rgrg/")]
    assert told == [replace(each, name=f"{each.name}_nonempty_only") for each in wanted], "interval and baselines too"
    assert all(each.low is not None for each in told if "difference" not in each.name)
    card = {each.name: each.value for each in found}
    assert card["rgrg/meteor_1_5_nonempty_only"] > card["rgrg/meteor_1_5"]
    only_silent = with_meteor(nothing, silent, known(), jar, java=(sys.executable,))
    assert not [each for each in [*plain, *only_silent] if each.name.endswith("_nonempty_only")]


def test_a_scorecard_with_meteor_lies_elsewhere_than_one_without(tmp_path: Path) -> None:
    bundle = BundleRef.model_construct(bundle_id="b")
    dataset = DatasetRef.model_construct(name="d", version="v")
    plain = evaluate.scorecard_key(bundle, dataset, EvaluateConfig())
    jar = tmp_path / "meteor.jar"
    with pytest.raises(ConfigError, match="no METEOR jar"):
        evaluate.scorecard_key(bundle, dataset, EvaluateConfig(meteor_jar=str(jar)))
    jar.write_text(STAND_IN_METEOR)
    assert evaluate.scorecard_key(bundle, dataset, EvaluateConfig(meteor_jar=str(jar))).startswith(
        f"{plain[:-5]}-meteor-"
    )


def test_a_scorecard_with_the_figures_of_an_earlier_program_is_made_again(
    card: Scorecard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path))
    dataset = DatasetRef(name="d", version="v", manifest_key="m", num_rows={"test": 6})
    monkeypatch.setattr(evaluate, "resolve_dataset", lambda *_: dataset)
    monkeypatch.setattr(evaluate, "_score", lambda *_: (card, {}))
    bundle, form = BundleRef(bundle_id="b", prefix="p"), EvaluateConfig()
    first, again = (evaluate.evaluate_bundle(bundle, form, storage) for _ in range(2))
    assert (first.reused, again.reused) == (False, True)
    assert first.metrics == again.metrics == card.metrics
    stored = storage.get_json(first.scorecard_key)
    storage.put_json(first.scorecard_key, {name: value for name, value in stored.items() if name != "figures_version"})
    assert not evaluate.evaluate_bundle(bundle, form, storage).reused
    logged: dict[str, dict[str, list[object]]] = {}

    class Tables(NullTracker):
        def log_table(self, name: str, columns: Mapping[str, Sequence[str | float | None]]) -> None:
            logged[name] = {head: list(values) for head, values in columns.items()}

    evaluate.log_scorecard(first, storage, Tables())
    assert logged["scorecard-table.json"]["figure"] == [each.name for each in card]
    assert set(logged) == {"scorecard-table.json", "published-table.json"}


def test_a_draft_is_not_blamed_for_what_an_archive_without_reports_never_asked() -> None:
    def of_archive(labels: dict[str, int | None]) -> Case:
        (pair, draft) = (CASES[0].reference, replace(CASES[0].draft, findings="There is edema.", impression=""))
        return Case(replace(pair, report=Report(), labels={**dict.fromkeys(LABELS), **labels}), draft)

    asked, unasked = of_archive({"Edema": 1}), of_archive({"Pneumonia": 0})
    figures = {figure.name: figure.value for figure in score_cases([asked, unasked], known())}
    assert figures["clinical/micro_precision"] == figures["clinical/micro_f1"] == 1.0
    cases = [asked, unasked, of_archive({})]
    main = main_figures(cases, known(), known().neighbours(cases), None)
    assert ABNORMALITY_F1 not in main
    assert main[CLINICAL_F1].of_drafts(np.array([0, 1])) == 1.0
    assert np.isnan(main[CLINICAL_F1].of_drafts(np.array([2])))
    assert np.isnan([main[name].of_drafts(np.array([0])) for name in (BLEU_4, ROUGE_L)]).all(), "no report"
    invented = of_archive({"Edema": 0})
    assert score_cases([invented], known())[CLINICAL_F1] == 0
    assert main_figures([invented], known(), np.array([0]), None)[CLINICAL_F1].of_drafts(np.array([0])) == 0
