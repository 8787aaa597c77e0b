from __future__ import annotations

import numpy as np
import pytest

from crrg.domain.labels import LABEL_INDEX
from crrg.evaluation.classification import own_phrase_auc, retrieval_places
from crrg.evaluation.label_figures import classifier_figures, majority, mean_label_figures

EDEMA, NORMAL = LABEL_INDEX["Edema"], LABEL_INDEX["No Finding"]


def known(values: list[float], column: int = EDEMA) -> np.ndarray:
    matrix = np.full((len(values), 14), np.nan)
    matrix[:, column] = values
    return matrix


def test_figures_of_one_known_label_by_hand() -> None:
    references = known([1, 1, 0, 0, np.nan])
    probabilities = np.full((5, 14), 0.5)
    probabilities[:, EDEMA] = [0.9, 0.4, 0.6, 0.1, 0.99]
    figures = mean_label_figures(probabilities, probabilities >= 0.5, references)
    # of four pairs one is in the wrong order; one hit, one miss, one false alarm
    assert figures["auc"] == pytest.approx(0.75)
    assert figures["f1"] == pytest.approx(0.5)
    assert figures["accuracy"] == pytest.approx(0.5)
    assert figures["auprc"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["sensitivity"] == pytest.approx(0.5)
    assert figures["ece"] == pytest.approx((0.1 + 0.6 + 0.6 + 0.1) / 4)


def test_no_finding_counts_everywhere_but_in_the_auc() -> None:
    references = known([1, 0], NORMAL)
    figures = mean_label_figures(np.full((2, 14), 0.5), np.ones((2, 14), dtype=bool), references)
    assert np.isnan(figures["auc"])
    assert figures["accuracy"] == 0.5


def test_the_majority_knows_the_training_films_only() -> None:
    probabilities, decisions = majority(known([1, 1, 1, 0, np.nan]), 2)
    assert probabilities[:, EDEMA].tolist() == [0.75, 0.75]
    assert decisions[:, EDEMA].all()
    assert not decisions[:, NORMAL].any()


def test_every_figure_has_an_interval_over_patients_and_the_majority_beside_it() -> None:
    rng = np.random.default_rng(0)
    references = known((rng.random(80) < 0.4).astype(float).tolist())
    probabilities = np.full((80, 14), 0.4)
    probabilities[:, EDEMA] = np.clip(0.4 + 0.3 * (references[:, EDEMA] - 0.4) + rng.normal(0, 0.25, 80), 0, 1)
    patients = [str(row // 2) for row in range(80)]
    figures = classifier_figures("x/", probabilities, probabilities >= 0.4, references, patients, known([1, 0, 0]))
    assert [figure.name for figure in figures] == [
        "x/mean_auc", "x/mean_auprc", "x/mean_f1", "x/mean_accuracy", "x/mean_sensitivity", "x/mean_ece",
    ]  # fmt: skip
    for figure in figures:
        assert figure.low <= figure.value <= figure.high
        assert figure.low < figure.high
        assert figure.baseline_name == "majority"
    assert figures[0].baseline == 0.5
    assert figures[2].baseline == 0.0
    assert figures[3].baseline == pytest.approx((references[:, EDEMA] == 0).mean())


def test_a_label_that_is_neither_given_nor_there_says_nothing_of_the_f1() -> None:
    # right about each label, which one patient of 40 has
    references = np.zeros((40, 14))
    references[range(14), range(14)] = 1
    patients = [str(row) for row in range(40)]
    figures = classifier_figures("", references, references == 1, references, patients, references)
    (f1,) = [figure for figure in figures if figure.name == "mean_f1"]
    assert (f1.low, f1.value, f1.high) == (1.0, 1.0, 1.0)
    few = classifier_figures("", references[:5], references[:5] == 1, references[:5], patients[:5], references)
    assert all(figure.low is None for figure in few)
    known_of_five = np.where(np.arange(40)[:, None] < 5, references, np.nan)
    few = classifier_figures("", references, references == 1, known_of_five, patients, references)
    assert few
    assert all(figure.low is None for figure in few)


def test_places_count_equal_reports_once() -> None:
    similarities = np.array([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5], [0.3, 0.3, 0.9]])
    assert retrieval_places(similarities, ["a", "b", "c"]).tolist() == [3, 3, 1]
    assert retrieval_places(similarities, ["a", "a", "c"]).tolist() == [2, 1, 1]


def test_an_own_phrase_is_preferred_or_not() -> None:
    assert own_phrase_auc(np.array([1.0, 0.2, 0.5]), np.array([0.5, 0.9, 0.5])) == 0.5
    assert np.isnan(own_phrase_auc(np.zeros(0), np.zeros(0)))
