"""The pure parts of ``make quality-generation``: folds, figures of texts, what is kept in files, the report."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.generation_quality import lungs as lung_module
from benchmarks.generation_quality.cohort import (
    baseline_reports,
    clinical_figures,
    read_draft,
    region_figures,
    sentence_figures,
)
from benchmarks.generation_quality.lungs import (
    COLUMNS,
    LungFilms,
    film_table,
    folds_of_groups,
    in_pictures,
    lung_piece,
    lung_training,
    summarise,
    take,
    train_on,
)
from benchmarks.generation_quality.report import markdown, unmet
from crrg.domain.labels import FINDINGS, LABELS, NEGATIVE, POSITIVE
from crrg.domain.regions import NUM_REGIONS, REGIONS
from crrg.domain.study import DraftReport, RegionPrediction
from crrg.operations.scoring.cases import Case
from crrg.operations.scoring.score import score_cases
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder
from tests.support.labelled_pair import labelled
from tests.support.scored_cases import TIED, annotation, case, known

GROUPS = ["a", "a", "a", "b", "b", "c", "d", "e", "f", "g"]


def lungs() -> LungFilms:
    pictures = [np.full((40, 20), 7 * row, dtype=np.uint8) for row in range(4)]
    boxes = np.full((4, NUM_REGIONS, 4), np.nan)
    boxes[:, COLUMNS] = [[0.0, 0.0, 8.0, 40.0], [10.0, 0.0, 20.0, 40.0]]
    boxes[3, COLUMNS[1]] = np.nan
    return LungFilms(
        film_table(pictures, boxes, 20, ["a", "a", "b", "c"]), boxes, ["a", "a", "b", "c"], np.array([True] * 4)
    )


def test_folds_are_whole_groups_of_about_equal_size() -> None:
    folds = folds_of_groups(GROUPS, 3, seed=1)
    assert all(len({fold for fold, group in zip(folds, GROUPS, strict=True) if group == name}) == 1 for name in GROUPS)
    assert sorted(np.bincount(folds).tolist()) == [3, 3, 4]
    assert folds.tolist() == folds_of_groups(GROUPS, 3, seed=1).tolist()
    assert any(folds.tolist() != folds_of_groups(GROUPS, 3, seed=seed).tolist() for seed in range(2, 8))


def test_boxes_of_the_model_input_lie_where_they_were_on_the_picture() -> None:
    films = lungs()
    assert films.films.images.shape == (4, 20, 20)
    back = in_pictures(films.films.input_boxes_xyxy, films.films.original_sizes, 20)
    np.testing.assert_allclose(back, films.boxes, atol=1e-4)
    assert take(films.films, np.array([3, 1])).instance_ids == ["3", "1"]


def test_summary_counts_what_was_drawn_and_names_the_worst_film_by_number() -> None:
    films = {
        "0": {"iou": [0.9, 0.7], "mean_box": [0.5, 0.5], "detected": [True, True]},
        "2": {"iou": [0.5, 0.3], "mean_box": [0.5, 0.7], "detected": [True, True]},
        "3": {"iou": [0.0, None], "mean_box": [0.2, None], "detected": [False, True]},
    }
    found = summarise(films, lungs())
    assert found["iou_right_lung"] == pytest.approx(1.4 / 3)
    assert found["mean_iou"] == pytest.approx((1.4 / 3 + 0.5) / 2)
    assert found["mean_box_iou"] == pytest.approx((0.4 + 0.6) / 2)
    assert (found["worst_film"], found["worst_iou"], found["num_groups"]) == (3, 0.0, 3)
    assert found["detected_share"] == pytest.approx(4 / 5)
    six_times = {str(4 * copy + int(row)): film for copy in range(6) for row, film in films.items()}
    alike = replace(lungs(), groups=[str(row // 4) for row in range(24)], has_mask=np.ones(24, dtype=bool))
    assert summarise(six_times, alike)["interval"] == pytest.approx([found["mean_iou"]] * 2), "of the same mean"
    low, high = summarise(six_times, replace(alike, groups=[str(row) for row in range(24)]))["interval"]
    assert low < found["mean_iou"] < high


def test_sentence_figures_by_hand() -> None:
    figures = sentence_figures(["No effusion. Clear lungs here.", "No effusion."])
    assert figures["sentences_per_report"] == pytest.approx(1.5)
    assert figures["words_per_sentence"] == pytest.approx(7 / 3)
    assert figures["distinct_sentences"] == pytest.approx(2 / 3)
    assert figures["distinct_reports"] == 1
    assert figures["distinct_2"] == pytest.approx(3 / 4)
    assert set(sentence_figures([""]).values()) == {0.0, 1.0}


def test_conditions_that_are_never_right_are_named_only_where_they_are_frequent() -> None:
    has_effusion = {**dict.fromkeys(LABELS, NEGATIVE), "Pleural Effusion": POSITIVE}
    has_fracture = {**dict.fromkeys(LABELS, NEGATIVE), "Fracture": POSITIVE, "Edema": POSITIVE}
    references = [labelled(has_effusion)] * 20 + [labelled(has_fracture)] * 19
    right = ["There is a left pleural effusion."] * 20 + ["There is pulmonary edema."] * 19
    figures = clinical_figures(references, {"drafts": right})
    assert figures["conditions"]["Pleural Effusion"] == {"positives": 20, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert figures["conditions"]["Fracture"]["f1"] == 0
    assert figures["never_right"] == [], "19 positives are too few to say so"
    silent = clinical_figures(references, {"drafts": ["The lungs are clear."] * 39})
    assert silent["never_right"] == ["Pleural Effusion"]
    assert list(silent["conditions"]) == list(FINDINGS)


def test_a_cohorts_tables_hold_the_figures_of_its_scorecard() -> None:
    missed = annotation("mediastinum", "The mediastinum is wide.", True)
    cases = [case(number, (*TIED, missed)) for number in range(12)]
    cases = [Case(each.reference, replace(each.draft, impression="There is edema.")) for each in cases]
    card = score_cases(cases, known(), abnormal_threshold=0.5)
    regions = region_figures(cases, known(), 0.5)
    clinical = clinical_figures([each.reference for each in cases], baseline_reports(cases, known()))["overall"]
    rivals = {(figure.name, figure.baseline_name): figure.baseline for figure in card}
    for part in ("precision", "recall", "f1"):
        assert regions["abnormality"][part] == pytest.approx(card[f"abnormality/{part}"]), part
        assert regions["all abnormal"][part] == pytest.approx(rivals[f"abnormality/{part}", "all abnormal"]), part
    for name, value in clinical["drafts"].items():
        assert value == pytest.approx(card[f"clinical/{name}"]), name
        neighbour = clinical["nearest neighbour's report"][name]
        assert neighbour == pytest.approx(rivals[f"clinical/{name}", "nearest neighbour"]), name
    assert clinical["drafts"]["micro_f1"] > 0, "the impression counts"


def test_a_report_that_nobody_could_read_is_held_against_no_draft() -> None:
    references = [labelled({"Edema": POSITIVE}), labelled({}, "Lungenödem.", "none")]
    figures = clinical_figures(references, {"drafts": ["There is pulmonary edema."] * 2})
    assert figures["overall"]["drafts"]["micro_precision"] == 1.0
    assert figures["conditions"]["Edema"] == {"positives": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0}


def test_a_draft_comes_back_from_a_file() -> None:
    regions = tuple(RegionPrediction(name, (0.0, 1.5, 2.0, 3.0), True, 0.5, False, 0.1, None, None) for name in REGIONS)
    draft = DraftReport("No effusion.", "", regions, {"Edema": 0.25}, {"Edema": 0}, 0.5, ("a",))
    assert read_draft(json.loads(json.dumps(asdict(draft)))) == draft


def test_report_tells_what_is_there() -> None:
    fold = {
        "num_training_films": 3,
        "films": {"0": {"iou": [0.9, 0.7], "mean_box": [0.5, 0.5], "detected": [True, True]}},
    }
    piece = lung_piece(9, 0)
    rows = {f"{piece}/fold0": fold, "lungs/9/0/fold1": fold}
    assert "1 of 5 folds" in markdown(rows)
    rows[f"{piece}/out-of-fold"] = {**summarise(fold["films"], lungs()), "preset": "tiny", "device": "cuda"}
    assert "| other patients' real films | tiny | cuda | 1 | 0.800 |" in markdown(rows)
    assert unmet(rows) == [f"{piece}/out-of-fold: mean IoU 0.800, at least 0.86 is promised"]
    assert markdown({}).strip() == ""
    stale = {
        f"{piece}/out-of-fold": {"interval_of_film_means": [0, 1]},
        "drawn/a": {"scorecard": {"figures_version": 1}},
    }
    assert markdown({**stale, f"{piece}/fold0": fold}) == markdown({f"{piece}/fold0": fold})
    contest = {"architectures/ab12/7-films/summary": {"num_films": 7}}
    assert markdown({**rows, **contest}) == markdown(rows), "a summary of a contest is none of lungs"


def test_a_detector_that_learns_otherwise_takes_up_no_states_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[str] = []

    def noted(*_: object, folder: StageFolder, **__: object) -> None:
        folders.append(folder.prefix)

    monkeypatch.setattr(lung_module, "fit", noted)
    monkeypatch.setattr(lung_module, "calibrate_shape", lambda *_: None)
    pieces = []
    learns = [("3", "tiny"), ("3", "tiny"), ("4", "tiny"), ("3", "small")]
    for code, preset in learns:
        monkeypatch.setattr(lung_module, "CODE_VERSION", code)
        monkeypatch.setattr(lung_module, "LUNG_PRESET", preset)
        train_on(lungs().films, lung_training(1), 0, Storage(str(tmp_path)))
        pieces.append(lung_piece(1, 0))
    for names in (folders, pieces):
        assert names[0] == names[1]
        assert len(set(names)) == 3
    assert [lung_module.is_current(f"{piece}/fold0") for piece in pieces] == [False, False, False, True]
    assert not lung_module.is_current("lungs/9/0/fold1"), "of a time when nothing was said of it"
    assert lung_piece(1, 0, torch.device("cuda")) != lung_piece(1, 0)
