"""Figures by kind of film: which groups are shown, and of which films each figure is."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from crrg.domain.acquisition import WORDS, Acquisition
from crrg.domain.labels import LABELS
from crrg.domain.regions import NUM_REGIONS
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, Split, ViewPosition
from crrg.operations.scoring.cases import Baselines, Case
from crrg.operations.scoring.groups import MIN_PATIENTS, NUM_SAMPLES, group_figures
from crrg.operations.scoring.main_figures import MainFigure, main_figures
from tests.support.drawn_night import draft_of

PIXELS = np.full((40, 50), 51, np.uint8)
NUM_FILMS = 2 * MIN_PATIENTS


def pair(number: int, view: ViewPosition, source: str = "phantom") -> Pair:
    """Return a film; an even number and the next are of one patient."""
    film = Film(PIXELS, 500, 400, view, None, False, b"")
    ids = (f"p{number // 2}", f"s{number}", f"i{number}")
    return Pair(*ids, film, Report(None, None, None), (), {"Edema": number % 2}, "drawn", source, b"", Split.TEST)


def of_films(values: np.ndarray) -> dict[str, MainFigure]:
    return {"mean": MainFigure(lambda rows: float(values[rows].mean()))}


def test_each_group_is_scored_on_its_own_films() -> None:
    pairs = [pair(n, ViewPosition.AP if n < NUM_FILMS else ViewPosition.PA) for n in range(3 * NUM_FILMS)]
    pairs += [pair(3 * NUM_FILMS + n, ViewPosition.UNKNOWN) for n in range(NUM_FILMS)]
    values = np.arange(len(pairs), dtype=float)
    figures = group_figures(pairs, {**of_films(values), "none": MainFigure(lambda _: float("nan"))})
    assert [figure.name for figure in figures] == ["view/AP/mean", "view/PA/mean"]
    first, second = figures
    assert first.value == pytest.approx((NUM_FILMS - 1) / 2)
    assert second.value == pytest.approx((4 * NUM_FILMS - 1) / 2)
    assert first.baseline == second.baseline == pytest.approx(values.mean())
    assert first.low < first.value < first.high < second.low
    rng, of_patients = np.random.default_rng(0), values[:NUM_FILMS].reshape(-1, 2).mean(axis=1)
    draws = [rng.integers(MIN_PATIENTS, size=MIN_PATIENTS) for _ in range(NUM_SAMPLES)]
    by_hand = np.quantile([of_patients[drawn].mean() for drawn in draws], [0.025, 0.975])
    assert (first.low, first.high) == pytest.approx(tuple(by_hand)), "patients are drawn, not films"
    assert group_figures(pairs[:NUM_FILMS], of_films(values)) == []


def test_a_figure_of_few_of_a_groups_patients_has_no_interval() -> None:
    pairs = [pair(n, ViewPosition.AP if n < NUM_FILMS else ViewPosition.PA) for n in range(2 * NUM_FILMS)]
    mean = of_films(np.ones(len(pairs)))["mean"]
    figures = group_figures(pairs, {"mean": replace(mean, known=np.arange(len(pairs)) >= NUM_FILMS - 10)})
    # five patients of the first view
    assert [(figure.name, figure.low) for figure in figures] == [("view/AP/mean", None), ("view/PA/mean", 1)]


def test_many_films_of_few_patients_are_no_group() -> None:
    pairs = [pair(n, ViewPosition.AP if n < 4 * MIN_PATIENTS else ViewPosition.PA) for n in range(8 * MIN_PATIENTS)]
    values = np.arange(len(pairs), dtype=float)
    few = [replace(each, patient_id=f"p{n % (MIN_PATIENTS - 1)}") for n, each in enumerate(pairs[: 4 * MIN_PATIENTS])]
    figures = group_figures([*few, *pairs[4 * MIN_PATIENTS :]], of_films(values))
    assert [figure.name for figure in figures] == ["view/PA/mean"]


def test_sex_age_and_maker_are_told_apart_where_they_are_known() -> None:
    known = [Acquisition("F", "40-59", "agfa"), Acquisition("M", "80 and over"), Acquisition()]
    pairs = [replace(pair(n, ViewPosition.PA), acquisition=known[n // 2 % 3]) for n in range(3 * NUM_FILMS)]
    values = np.arange(len(pairs)) // 2 % 3
    figures = group_figures(pairs, of_films(values))
    # what is unknown is in no group, and every group is of its own films alone
    assert [(figure.name, figure.value, figure.baseline) for figure in figures] == [
        ("sex/F/mean", 0, 1),
        ("sex/M/mean", 1, 1),
        ("age_band/40-59/mean", 0, 1),
        ("age_band/80 and over/mean", 1, 1),
        ("manufacturer/agfa/mean", 0, 1),
    ]
    assert group_figures(pairs[: 3 * NUM_FILMS - 6], of_films(values)) == []


def test_names_of_groups_can_be_metrics_of_a_tracked_run() -> None:
    words = [f"{name}/{word}/classification/mean_auc" for name, known in WORDS.items() for word in known]
    assert [word for word in words if not re.fullmatch(r"[/\w.\- ]+", word)] == []


def test_archives_are_told_apart() -> None:
    pairs = [pair(n, ViewPosition.PA, "openi" if n % 2 else "folder") for n in range(2 * MIN_PATIENTS)]
    figures = group_figures(pairs, of_films(np.arange(len(pairs)) % 2))
    assert [(figure.name, figure.value) for figure in figures] == [
        ("source/folder/mean", 0),
        ("source/openi/mean", 1),
    ]


def test_a_group_stands_beside_its_own_baseline_too() -> None:
    pairs = [pair(n, ViewPosition.AP if n < NUM_FILMS else ViewPosition.PA) for n in range(2 * NUM_FILMS)]
    values = np.arange(len(pairs), dtype=float)
    rival = MainFigure(of_films(values)["mean"].of_drafts, "half", lambda rows: float(values[rows].mean()) / 2)
    figures = group_figures(pairs, {"mean": rival})
    assert [(figure.name, figure.baseline_name) for figure in figures] == [
        (f"view/{view}/mean", name) for view in ("AP", "PA") for name in ("all films", "half")
    ]
    assert [figure.baseline for figure in figures[1::2]] == [figure.value / 2 for figure in figures[1::2]]


def test_texts_regions_and_labels_are_shown_of_groups() -> None:
    cases = [Case(each, draft_of(each.film)) for n in range(6) for each in [pair(n, ViewPosition.PA)]]
    unfitted = Baselines(
        np.zeros((NUM_REGIONS, 4)), np.zeros(NUM_REGIONS, dtype=bool), np.zeros((0, 32, 32)),
        np.zeros((0, len(LABELS))), [], [], "",
    )  # fmt: skip
    main = main_figures(cases, unfitted, unfitted.neighbours(cases), 0.5)
    assert set(main) == {
        "detection/mean_region_iou", "classification/mean_auc", "clinical/micro_f1", "rgrg/bleu_4", "rgrg/rouge_l",
        "selection/f1", "abnormality/f1",
    }  # fmt: skip
    rows = np.arange(6)
    # all drafts are the same, so nothing tells films with edema from others; no box, phrase or report is known
    known = {name: value for name, figure in main.items() if np.isfinite(value := figure.of_drafts(rows))}
    assert known == {"classification/mean_auc": 0.5, "clinical/micro_f1": 0}
    assert {name for name, figure in main.items() if figure.of_rival} == {"abnormality/f1"}, "no training film"
